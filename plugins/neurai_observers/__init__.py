"""Observers of training runs: their settings and specs.

No file here is named like a plugin, because importing a submodule binds its name in the package.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import Config, ObserverSpec


class EarlyStoppingConfig(Config):
    """Settings of early stopping."""

    patience: int = Field(5, ge=1, description="epochs in a row without improvement after which training stops")
    metric: str = Field(
        "test_loss",
        min_length=1,
        description="what improves, by its name in the metrics: an accuracy by rising, all else by falling",
    )
    min_delta: float = Field(0.0, ge=0, description="an improvement is larger than this, in units of the metric")


early_stopping = Plugin(
    ObserverSpec(
        name="early-stopping",
        summary="Stops a run whose metric has not improved for some epochs.",
        config=EarlyStoppingConfig,
    ),
    "neurai_observers.stopping:EarlyStopping",
)


class CsvConfig(Config):
    """Settings of the table of metrics."""

    path: str = Field("", description="the file, replaced if it exists; without it, metrics.csv in the run's folder")


csv = Plugin(
    ObserverSpec(
        name="csv",
        summary="Writes the metrics of every epoch as a row of a table.",
        config=CsvConfig,
    ),
    "neurai_observers.tables:CsvFile",
)


class TensorBoardConfig(Config):
    """Settings of the events for TensorBoard."""

    dir: str = Field("", description="folder for the events; without it, tensorboard in the run's folder")


tensorboard = Plugin(
    ObserverSpec(
        name="tensorboard",
        summary="Writes the metrics of every epoch as events that TensorBoard shows.",
        config=TensorBoardConfig,
        requires={"tensorboardX": "neurai[tensorboard]"},
    ),
    "neurai_observers.events:TensorBoardEvents",
)


class WandbConfig(Config):
    """Settings of a run of Weights & Biases."""

    project: str = Field("neurai", min_length=1, description="project of the run")
    name: str = Field("", description="name of the run; without it, that of its folder")
    mode: Literal["online", "offline", "disabled"] | None = Field(
        None, description="whether it is uploaded now, later with wandb sync, or not; without it, as WANDB_MODE says"
    )


wandb = Plugin(
    ObserverSpec(
        name="wandb",
        summary="Logs settings and the metrics of every epoch to Weights & Biases.",
        config=WandbConfig,
        requires={"wandb": "neurai[wandb]"},
    ),
    "neurai_observers.tracking:WandbRun",
)


class MlflowConfig(Config):
    """Settings of a run of MLflow."""

    uri: str = Field("", description="tracking server or store; without it, as MLFLOW_TRACKING_URI says")
    experiment: str = Field("neurai", min_length=1, description="experiment of the run")
    name: str = Field("", description="name of the run; without it, that of its folder")


mlflow = Plugin(
    ObserverSpec(
        name="mlflow",
        summary="Logs settings and the metrics of every epoch to MLflow.",
        config=MlflowConfig,
        requires={"mlflow": "mlflow"},  # no extra of neurai: it wants an older importlib-metadata
    ),
    "neurai_observers.tracking:MlflowRun",
)

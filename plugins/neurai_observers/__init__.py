"""Observers of training runs: their settings and specs."""

from __future__ import annotations

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

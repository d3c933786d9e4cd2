"""Runs of services that track experiments, Weights & Biases and MLflow.

The id that a service gives to a run is kept in the run's folder, so that a run that is resumed goes on there.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from neurai_core.hookspecs import hookimpl
from neurai_observers import MlflowConfig, WandbConfig


class WandbRun:
    """The observer that logs to Weights & Biases; the steps of its axis are epochs.

    Args:
        config: its settings.
        **context: not used.
    """

    def __init__(self, config: WandbConfig, **context: Any) -> None:
        self.config = config
        self.run: Any = None

    @hookimpl
    def neurai_before_run(self, folder: Path | None) -> None:
        """Begin the run, or continue it; earlier epochs are there."""
        import wandb

        self.run = wandb.init(
            project=self.config.project,
            name=self.config.name or _name_of(folder),
            mode=self.config.mode,
            dir=folder and str(folder),
            id=folder and remembered(folder / "wandb.id", partial(token_hex, 4)),
            resume="allow",
            config=settings_in(folder),
        )

    @hookimpl
    def neurai_after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch, unless it is there: its numbers are the same."""
        if epoch >= self.run.step:
            self.run.log(dict(metrics), step=epoch)

    @hookimpl
    def neurai_after_run(self, finished: bool) -> None:
        """End the run."""
        if self.run is not None:
            self.run.finish(exit_code=0 if finished else 1)


class MlflowRun:
    """The observer that logs to MLflow; the steps of its axis are epochs.

    Args:
        config: its settings.
        **context: not used.
    """

    def __init__(self, config: MlflowConfig, **context: Any) -> None:
        self.config = config
        self.client: Any = None
        self.id, self.done = "", 0

    @hookimpl
    def neurai_before_run(self, history: Sequence[Mapping[str, float]], folder: Path | None) -> None:
        """Begin the run, or continue it and log the epochs that are missing there."""
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=self.config.uri or None)
        self.id = remembered(folder / "mlflow.id", self._begun(folder)) if folder else self._begun(folder)()
        self.client.update_run(self.id, status="RUNNING")
        self.done = int(self.client.get_run(self.id).data.metrics.get("epoch", 0))
        for epoch, metrics in enumerate(history, 1):
            self.neurai_after_epoch(epoch, metrics)

    @hookimpl
    def neurai_after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch, unless it is there: its numbers are the same."""
        from mlflow.entities import Metric

        if epoch > self.done:
            now = int(1e3 * time.time())
            values = {**metrics, "epoch": float(epoch)}
            self.client.log_batch(self.id, metrics=[Metric(key, value, now, epoch) for key, value in values.items()])

    @hookimpl
    def neurai_after_run(self, finished: bool) -> None:
        """End the run."""
        if self.id:
            self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")

    def _begun(self, folder: Path | None) -> Callable[[], str]:
        """A function that begins a run and gives its id."""

        def begin() -> str:
            from mlflow.entities import Param

            found = self.client.get_experiment_by_name(self.config.experiment)
            experiment = found.experiment_id if found else self.client.create_experiment(self.config.experiment)
            run = self.client.create_run(experiment, run_name=self.config.name or _name_of(folder))
            params = [Param(key, str(value)) for key, value in settings_in(folder).items()]
            self.client.log_batch(run.info.run_id, params=params)
            return str(run.info.run_id)

        return begin


def remembered(path: Path, make: Callable[[], str]) -> str:
    """The text in a file, which is made and written if the file is missing.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "id")
    >>> remembered(path, lambda: "first"), remembered(path, lambda: "second")
    ('first', 'first')
    """
    if not path.exists():
        path.write_text(make(), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def settings_in(folder: Path | None) -> dict[str, Any]:
    """The settings of the run in a folder by name, those of its parts as ``rule.eta``; none without a folder."""
    if folder is None:
        return {}
    content = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    parts, _ = content.pop("settings", {}), content.pop("record", {})
    return content | {f"{part}.{key}": value for part, given in parts.items() for key, value in given.items()}


def _name_of(folder: Path | None) -> str | None:
    return None if folder is None else folder.resolve().name

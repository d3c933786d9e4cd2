"""Early stopping: a run ends when a metric has not improved for some epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neurai_core.errors import SettingsError
from neurai_core.hookspecs import hookimpl
from neurai_core.naming import did_you_mean
from neurai_observers import EarlyStoppingConfig


class EarlyStopping:
    """The observer; it starts afresh with every run, and goes through what a resumed run has recorded.

    Args:
        config: its settings.
        **context: not used.

    >>> stop = EarlyStopping(EarlyStoppingConfig(patience=2))
    >>> stop.neurai_before_run([], ["train_loss", "test_loss"])
    >>> for loss in (0.5, 0.3, 0.4, 0.3):
    ...     said = stop.neurai_after_epoch({"test_loss": loss})
    >>> said
    'test_loss has not improved for 2 epochs, 0.3 was the best'
    """

    def __init__(self, config: EarlyStoppingConfig, **context: Any) -> None:
        self.config = config
        self.sign = -1.0 if config.metric.endswith("accuracy") else 1.0
        self.best, self.waited = math.inf, 0

    @hookimpl
    def neurai_before_run(self, history: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> str | None:
        """Start afresh, and do what was done in the epochs before.

        Raises:
            SettingsError: the metric to watch is none of the run.
        """
        watched = self.config.metric
        if watched not in metrics:
            raise SettingsError(
                f"early-stopping watches {watched!r}, which is not a metric of this run."
                f"{did_you_mean(watched, metrics)}",
                f"Metrics: {', '.join(metrics)}.",
            )
        self.best, self.waited, said = math.inf, 0, None
        for epoch in history:
            said = self.neurai_after_epoch(epoch)
        return said

    @hookimpl
    def neurai_after_epoch(self, metrics: Mapping[str, float]) -> str | None:
        """Why the run is to stop, if it is."""
        config = self.config
        value = self.sign * metrics[config.metric]
        improved = value < self.best - config.min_delta
        self.best, self.waited = (value, 0) if improved else (self.best, self.waited + 1)
        if self.waited < config.patience:
            return None
        epochs = "epoch" if config.patience == 1 else "epochs"
        best = f"{self.sign * self.best:.4g} was the best"
        return f"{config.metric} has not improved for {self.waited} {epochs}, {best}"

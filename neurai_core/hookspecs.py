"""The hooks of NeurAI: the two that every plugin implements, and those of observers.

Mark an implementation with `hookimpl`; an implementation may leave out arguments it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from neurai_core.specs import Config, PluginSpec

PROJECT = "neurai"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PluginHooks:
    """Hooks of a plugin, an object named by an entry point of a kind (``neurai.algorithms``, ...)."""

    @hookspec(firstresult=True)
    def neurai_spec(self) -> PluginSpec:  # type: ignore[empty-body]
        """Return the spec of the plugin. Must not import JAX."""

    @hookspec(firstresult=True)
    def neurai_build(self, config: Config, context: Mapping[str, Any]) -> Any:
        """Build the object itself: a Rule, a Surrogate, an Adapter, a Dataset or a BatchedData.

        Args:
            config: the validated settings, an instance of the spec's config class.
            context: arguments of the kind besides settings; an algorithm gets ``loss``, ``accuracy``
                and ``has_aux``.
        """


class ObserverHooks:
    """Hooks of an observer (group ``neurai.observers``), which implements at least one of them.

    Those that return a string may end the training: it says why, in a few words. None continues.
    """

    @hookspec
    def neurai_before_run(
        self, history: Sequence[Mapping[str, float]], metrics: Sequence[str], folder: Path | None
    ) -> str | None:
        """Called before training starts or resumes, with the metrics of earlier epochs, in order.

        ``metrics`` are the names of the metrics that every epoch will have.

        The history is empty unless a run is resumed. An observer that remembers epochs starts afresh here and goes
        through the history, so that a resumed run is observed like one that was never stopped. ``folder`` is that of
        the run, which holds its ``config.toml``; None for training without one.
        """

    @hookspec
    def neurai_after_run(self, finished: bool) -> None:
        """Called when training ends, in whatever way; ``finished`` unless a signal or an error cut it short."""

    @hookspec
    def neurai_before_step(self, step: int, epoch: int) -> None:
        """Called before step ``step`` (counted from 0 over the whole run) of epoch ``epoch`` (counted from 1)."""

    @hookspec
    def neurai_after_step(self, step: int, epoch: int, loss: float, accuracy: float) -> str | None:
        """Called after a step with the loss and accuracy of its batch (-1 without an accuracy function)."""

    @hookspec
    def neurai_before_epoch(self, epoch: int) -> None:
        """Called before epoch ``epoch`` (counted from 1), and again where a run is resumed within it."""

    @hookspec
    def neurai_after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """Called after an epoch with its metrics by name."""

    @hookspec
    def neurai_checkpoint(self, step: int, path: Path) -> None:
        """Called when a checkpoint after ``step`` steps has been written to ``path``."""

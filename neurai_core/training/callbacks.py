"""Callbacks of training, and the metrics that they receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from neurai_core.training.step import Progress
from neurai_core.training.task import Task


class Row(NamedTuple):
    """The metrics of one epoch.

    Attributes:
        epoch: counted from 1.
        step: number of steps done.
        values: train_loss and train_accuracy (means over the epoch's batches, each before its update), test_loss
            and test_accuracy (after the epoch, if there are test data), and means of what the rule reports. No accuracy
            without classes. If the rule learns from inputs alone, both losses are its own, and the accuracy is that
            of a linear probe.
        step_ms: mean wall time of a step of this epoch, in milliseconds, without compiling and testing.
    """

    epoch: int
    step: int
    values: dict[str, float]
    step_ms: float

    def as_dict(self) -> dict[str, Any]:
        """The metrics in one dictionary, as a line of ``metrics.jsonl`` has them.

        >>> Row(1, 22, {"train_loss": 0.5}, 0.12345).as_dict()
        {'epoch': 1, 'step': 22, 'train_loss': 0.5, 'step_ms': 0.1235}
        """
        return {"epoch": self.epoch, "step": self.step, **self.values, "step_ms": round(self.step_ms, 4)}


@dataclass(frozen=True)
class Callbacks:
    """Functions called during training; each one is optional.

    Attributes:
        compiling: ``()``: the step is compiled now, which takes seconds.
        begin: ``(task, steps done)``: everything is compiled, the first step follows.
        steps: ``(steps done)``, several times a second.
        epoch: ``(row, progress)`` after every epoch.
        note: ``(sentence)``: a note that is not an error.
        result: ``(result)``: what a finished run returns, before its picture is drawn.
        at_most: ``(steps done)``: the number of steps after which to return to the host at the latest.
        reached: ``(steps done, progress)`` whenever training has returned to the host. The next step takes the arrays
            of the progress away.
        stop: called between stretches of steps; True ends training there. A run checks for signals.
        check_in: ``(steps, reason) -> (steps, reason)`` between stretches of steps and after an epoch: how many steps
            to take next, 0 to stop, and why an observer ends training, as all processes that train together agree.
        notify: ``(hook, **arguments) -> why to stop``, of observers: a text that ends training unless it is empty. A
            run passes that of its observers.
        watch_steps: whether `notify` is called for every step too, which then returns to the host.
        history: for observers, the metrics of the epochs that were done before, in order.
        folder: for observers, the folder of the run; None for training without one.
        interrupted: ``(progress)``: where training stands when `notify` raises, to be saved.
    """

    compiling: Callable[[], None] = lambda: None
    begin: Callable[[Task, int], None] = lambda task, done: None
    steps: Callable[[int], None] = lambda step: None
    epoch: Callable[[Row, Progress], None] = lambda row, progress: None
    note: Callable[[str], None] = lambda sentence: None
    result: Callable[[dict[str, Any]], None] = lambda result: None
    at_most: Callable[[int], int] = lambda done: 2**31
    reached: Callable[[int, Progress], None] = lambda done, progress: None
    stop: Callable[[], bool] = lambda: False
    check_in: Callable[[int, str], tuple[int, str]] = lambda steps, reason: (steps, reason)
    notify: Callable[..., str | None] = lambda hook, **arguments: None
    watch_steps: bool = False
    history: Sequence[Mapping[str, float]] = ()
    folder: Path | None = None
    interrupted: Callable[[Progress], None] = lambda progress: None

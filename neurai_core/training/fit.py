"""Training: the compiled step, run over the epochs, with nothing brought back to the host that is not asked for.

The host looks once per stretch of steps, whose length follows the clock and changes no number.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from neurai_core.errors import RisingEnergy, TrainingError
from neurai_core.rising import ENERGY_CHANGE, rises
from neurai_core.training.data import order
from neurai_core.training.evaluation import evaluator
from neurai_core.training.step import Progress, Snapshot, begin, compiled, rows_used
from neurai_core.training.task import Task

LOOK_EVERY = 0.2  # seconds between two looks of the host
FAR = 2.0  # times the loss at the start: a run that ends above that says so


class NotFinite(TrainingError):
    """A loss was NaN or infinite, and training stopped.

    Args:
        which: whose loss: ``training`` or ``test``.
        step: the step, counted from 0.
        good: what was kept.
    """

    def __init__(self, which: str, step: int, good: Snapshot) -> None:
        super().__init__(
            f"The {which} loss was not finite at step {step}; the last parameters with a finite loss are kept.",
            "Lower --lr, or look at the settings of the rule and at the data: NaN, or labels outside the classes.",
            step=step,
        )
        self.good = good


class Row(NamedTuple):
    """The metrics of one epoch.

    Attributes:
        epoch: counted from 1.
        step: number of steps done.
        values: train_loss and train_accuracy (means over the epoch's batches, each before its update), test_loss
            and test_accuracy (after the epoch), and means of what the rule reports. No accuracy without classes.
        step_ms: mean wall time of a step of this epoch, in milliseconds, without compiling and testing.
    """

    epoch: int
    step: int
    values: dict[str, float]
    step_ms: float


class Fitted(NamedTuple):
    """The end of training.

    Attributes:
        progress: where training stands.
        rows: one per epoch that was finished here.
        step_ms: mean wall time of a step, without compiling and testing; nan when there was none.
        stopped: whether it was asked to stop before the end.
    """

    progress: Progress
    rows: list[Row]
    step_ms: float
    stopped: bool


@dataclass(frozen=True)
class Watch:
    """What is told while training goes on; every one may be left out.

    Attributes:
        begin: ``(progress)``: everything is compiled, the first step follows.
        steps: ``(steps done)``, several times a second.
        epoch: ``(row, progress)`` after every epoch.
        stop: asked between stretches of steps; True ends training there.
        notify: ``(hook, **arguments)`` of observers; given only when there are any, for then every step is
            brought back to the host.
    """

    begin: Callable[[Progress], None] = lambda progress: None
    steps: Callable[[int], None] = lambda step: None
    epoch: Callable[[Row, Progress], None] = lambda row, progress: None
    stop: Callable[[], bool] = lambda: False
    notify: Callable[..., None] | None = None


def fit(task: Task, progress: Progress | None = None, watch: Watch | None = None) -> Fitted:
    """Train.

    Args:
        task: what to train, on what, and how.
        progress: where to go on from; None for the beginning. Its arrays are given up.
        watch: whom to tell.

    Raises:
        NotFinite: a loss was NaN or infinite.
        PluginError: the rule gives gradients or a state that do not match the parameters.

    Example:
        >>> from neurai_core.training.settings import choose
        >>> from neurai_core.training.task import prepare
        >>> fitted = fit(prepare(choose({"epochs": 2, "model": "mlp:16"}, environ={})))
        >>> [row.step for row in fitted.rows], fitted.stopped
        ([22, 44], False)
    """
    watch = watch or Watch()
    run = _Run(task, begin(task) if progress is None else progress, watch)
    watch.begin(run.progress)
    while run.done < task.steps and not run.stopped:
        run.epoch()
    run.warn_if_worse()
    return Fitted(run.progress, run.rows, run.clock.step_ms, run.stopped)


# ---------------------------------------------------------------------------- one run


class _Clock:
    """Wall time spent in steps, and how many should pass until the next look."""

    def __init__(self) -> None:
        self.seconds, self.steps, self.stretch = 0.0, 0, 1

    def count(self, steps: int, seconds: float) -> None:
        self.seconds += seconds
        self.steps += steps
        self.stretch = max(1, min(2 * self.stretch, int(LOOK_EVERY / max(seconds / steps, 1e-6))))

    @property
    def step_ms(self) -> float:
        return 1e3 * self.seconds / self.steps if self.steps else math.nan


@dataclass
class _Run:
    """One call of `fit`."""

    task: Task
    progress: Progress
    watch: Watch
    rows: list[Row] = field(default_factory=list)
    clock: _Clock = field(default_factory=_Clock)
    stopped: bool = False
    warned: bool = False

    def __post_init__(self) -> None:
        self.step = compiled(self.task, self.progress)
        self.test = evaluator(self.task)
        self.start_loss, _ = self.test(self.task.params, self.progress.state)  # compiles it as well
        self.x, self.y = map(jax.device_put, (self.task.data.x_train, self.task.data.y_train))
        self.done = int(self.progress.step)

    def epoch(self) -> None:
        """Run to the end of the epoch, or until asked to stop."""
        epoch, steps = self.done // self.task.epoch_steps, self.task.epoch_steps
        self._notify("neurai_before_epoch", epoch=epoch)
        order_now = order(self.task.seed, epoch, len(self.task.data.x_train))[: rows_used(self.task)]
        rows = jax.device_put(order_now.astype(np.int32))
        clock = _Clock()
        clock.stretch = self.clock.stretch
        while self.done < (epoch + 1) * steps:
            if self.watch.stop():
                self.stopped = True
                return
            self._stretch(rows, min(clock.stretch, (epoch + 1) * steps - self.done), clock)
        self._finish(epoch, clock)

    def _stretch(self, rows: jax.Array, steps: int, clock: _Clock) -> None:
        steps = 1 if self.watch.notify else steps
        self._notify("neurai_before_step", step=self.done, epoch=self.done // self.task.epoch_steps)
        start = time.perf_counter()
        for _ in range(steps):
            self.progress = self.step(self.progress, self.x, self.y, rows)
        bad = int(self.progress.bad)  # waits for all of them
        seconds = time.perf_counter() - start
        if bad >= 0:
            self._warn_if_rising(self.progress.totals)
            raise NotFinite("training", bad, self.progress.good)
        for one in (clock, self.clock):
            one.count(steps, seconds)
        self.done += steps
        self._after_step()
        self.watch.steps(self.done)

    def _after_step(self) -> None:
        if self.watch.notify:
            loss, accuracy = map(float, self.progress.last)
            step = self.done - 1
            self._notify(
                "neurai_after_step",
                step=step,
                epoch=step // self.task.epoch_steps,
                loss=loss,
                accuracy=accuracy,
            )

    def _finish(self, epoch: int, clock: _Clock) -> None:
        means = {name: float(total) / self.task.epoch_steps for name, total in self.progress.totals.items()}
        values = {name: means.pop(name) for name in ("train_loss", "train_accuracy")}
        values["test_loss"], values["test_accuracy"] = self.test(self.progress.params, self.progress.state)
        values |= means
        self._warn_if_rising(values)
        if not math.isfinite(values["test_loss"]):
            raise NotFinite("test", self.done, self.progress.good)
        if self.task.data.n_classes is None:
            values = {name: value for name, value in values.items() if not name.endswith("_accuracy")}
        row = Row(epoch + 1, self.done, values, clock.step_ms)
        self.rows.append(row)
        self.watch.epoch(row, self.progress)
        self._notify("neurai_after_epoch", epoch=epoch, metrics=values)

    def _warn_if_rising(self, reported: Mapping[str, Any]) -> None:
        """Once per run: a relaxation that goes uphill, or ended in NaN, gives gradients of nothing."""
        change = reported.get(f"aux/{ENERGY_CHANGE}", 0.0)
        if not self.warned and rises(change, reported["train_loss"]):
            self.warned = True
            warnings.warn(RisingEnergy(float(change)), stacklevel=4)

    def warn_if_worse(self) -> None:
        """When the losses ended far above where the test loss of the untrained parameters was."""
        if not self.rows:
            return
        start, values = self.start_loss, self.rows[-1].values
        end = min(values["train_loss"], values["test_loss"])  # one alone may rise, as when a network overfits
        if end - start > (FAR - 1) * abs(start):
            warnings.warn(
                f"The loss ended at {end:.3g}, far above the {start:.3g} at which it started: training made the "
                "network worse. Lower --lr, or look at the settings of the rule.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _notify(self, hook: str, **arguments: Any) -> None:
        if self.watch.notify:
            self.watch.notify(hook, **arguments)

"""Training: the compiled step, run over the epochs, returning to the host only what is needed.

The host checks in once per stretch of steps, whose length depends on the clock and does not affect results.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from neurai_core.errors import NeurAIError, RisingEnergy, TrainingError
from neurai_core.rising import ENERGY_CHANGE, rises
from neurai_core.training.callbacks import Callbacks, Row
from neurai_core.training.evaluation import evaluator
from neurai_core.training.feeding import fed, feed_of
from neurai_core.training.step import Progress, Snapshot, begin, compiled
from neurai_core.training.task import Task

LOOK_EVERY = 0.2  # seconds between two checks by the host
FAR = 2.0  # times the initial loss: a run that ends above it warns


class NotFinite(TrainingError):
    """A loss was NaN or infinite, and training stopped.

    Args:
        which: which loss, ``training`` or ``test``.
        step: the step, counted from 0.
        last_finite: the parameters that were kept.
    """

    def __init__(self, which: str, step: int, last_finite: Snapshot) -> None:
        super().__init__(
            f"The {which} loss was not finite at step {step}; the last parameters with a finite loss are kept.",
            "Lower --lr, or look at the settings of the rule and at the data: NaN, or labels outside the classes.",
            step=step,
        )
        self.last_finite = last_finite


class Trained(NamedTuple):
    """The result of training a task.

    Attributes:
        progress: where training stands.
        rows: one per epoch that was finished here.
        step_ms: mean wall time of a step, without compiling and testing; nan if no step was run.
        stopped: whether training was stopped before the end.
        reason: why, if it was an observer that stopped it; else empty.
    """

    progress: Progress
    rows: list[Row]
    step_ms: float
    stopped: bool
    reason: str = ""


def train_task(task: Task, progress: Progress | None = None, callbacks: Callbacks | None = None) -> Trained:
    """Train the network of a task.

    Args:
        task: the training task.
        progress: where to continue; None starts from the beginning. Its arrays are donated.
        callbacks: functions to call during training.

    Raises:
        NotFinite: a loss was NaN or infinite.
        PluginError: the rule gives gradients or a state that do not match the parameters.

    Example:
        >>> from neurai_core.training.settings import choose
        >>> from neurai_core.training.task import prepare
        >>> trained = train_task(prepare(choose({"epochs": 2, "model": "mlp:16"}, environ={})))
        >>> [row.step for row in trained.rows], trained.stopped
        ([22, 44], False)
    """
    callbacks = callbacks or Callbacks()
    loop = _Loop(task, begin(task) if progress is None else progress, callbacks)
    callbacks.begin(task, loop.done)
    with loop.observed():
        while loop.done < task.steps and not loop.stopped:
            loop.epoch()
    loop.warn_if_worse()
    return Trained(loop.progress, loop.rows, loop.clock.step_ms, loop.stopped, loop.reason if loop.stopped else "")


def metric_names(task: Task, totals: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what every epoch reports: losses, accuracies of classes, and what the rule adds."""
    tested = ("test_loss", "test_accuracy") if len(task.data.x_test) else ()
    names = dict.fromkeys(("train_loss", "train_accuracy", *tested, *totals))
    classes = task.data.n_classes is not None
    left_out = {"train_accuracy"} if task.unsupervised else set()  # only the probe has one
    return tuple(name for name in names if name not in left_out and (classes or not name.endswith("_accuracy")))


def epoch_values(task: Task, totals: Mapping[str, Any], tested: tuple[float, float]) -> dict[str, float]:
    """The metrics of an epoch, as `Row` has them, from the sums over its steps and loss and accuracy of the test."""
    means = {name: float(total) / task.epoch_steps for name, total in totals.items()}
    known = dict(zip(("test_loss", "test_accuracy"), tested, strict=True)) | means
    values = {name: known[name] for name in metric_names(task, totals)}
    if values.get("train_accuracy", 0.0) < 0:  # the rule was built without one
        del values["train_accuracy"]
    return values


# ---------------------------------------------------------------------------- the loop


class _Clock:
    """Wall time spent in steps, and the number of steps until the next check."""

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
class _Loop:
    """One call of `train_task`."""

    task: Task
    progress: Progress
    callbacks: Callbacks
    rows: list[Row] = field(default_factory=list)
    clock: _Clock = field(default_factory=_Clock)
    interrupted: bool = False
    reason: str = ""
    wish: str = ""  # the reason of an observer of this process, before all have agreed
    warned: bool = False

    def __post_init__(self) -> None:
        self.step = compiled(self.task, self.progress)
        self.test = evaluator(self.task)
        self.start_loss, _ = self.test(self.task.params, self.progress.state)  # also compiles it
        self.feed = feed_of(self.task)
        self.done = int(self.progress.step)

    @property
    def stopped(self) -> bool:
        """Whether a callback or an observer has ended training before its time."""
        return self.interrupted or bool(self.reason and self.done < self.task.steps)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what every epoch reports."""
        return metric_names(self.task, self.progress.totals)

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Tell observers of the beginning of training, and of its end, however it comes."""
        finished = False
        try:
            self.notify(
                "neurai_before_run", history=self.callbacks.history, metrics=self.metrics, folder=self.callbacks.folder
            )
            self.agreed(1)
            yield
            finished = not self.interrupted
        finally:
            self.callbacks.notify("neurai_after_run", finished=finished)

    def epoch(self) -> None:
        """Run to the end of the epoch, or until a stop is requested."""
        epoch, steps = self.done // self.task.epoch_steps, self.task.epoch_steps
        self.notify("neurai_before_epoch", epoch=epoch + 1)
        clock = _Clock()
        clock.stretch = self.clock.stretch
        with fed(self.feed, epoch, self.done % steps) as batches:
            while self.done < (epoch + 1) * steps:
                most = min((epoch + 1) * steps - self.done, self.callbacks.at_most(self.done))
                stretch = self.agreed(0 if self.callbacks.stop() else min(clock.stretch, most))
                self.interrupted = not stretch
                if self.stopped:
                    return
                self._stretch(batches, stretch, clock)
        self._finish(epoch, clock)

    def agreed(self, steps: int) -> int:
        """The steps to take next, as all processes agree; none to stop there."""
        steps = 1 if steps and self.callbacks.watch_steps else steps
        steps, self.reason = self.callbacks.check_in(steps, self.wish)
        return steps

    def _stretch(self, batches: Iterator[tuple[Any, ...]], steps: int, clock: _Clock) -> None:
        self._before_step()
        start = time.perf_counter()
        for _ in range(steps):
            self.progress = self.step(self.progress, *self._next(batches))
        bad = int(self.progress.bad)  # waits for all steps
        seconds = time.perf_counter() - start
        if bad >= 0:
            self._warn_if_rising(self.progress.totals)
            raise NotFinite("training", bad, self.progress.last_finite)
        for one in (clock, self.clock):
            one.count(steps, seconds)
        self.done += steps
        self._after_step()
        self.callbacks.steps(self.done)
        self.callbacks.reached(self.done, self.progress)

    def _next(self, batches: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
        """What the next step takes; data that turn out to be wrong end training, and what was done is saved."""
        try:
            return next(batches)
        except NeurAIError:
            self.callbacks.interrupted(self.progress)
            raise

    def _before_step(self) -> None:
        if self.callbacks.watch_steps:
            self.notify("neurai_before_step", step=self.done, epoch=self.done // self.task.epoch_steps + 1)

    def _after_step(self) -> None:
        if self.callbacks.watch_steps:
            (loss, accuracy), step = map(float, self.progress.last), self.done - 1
            epoch = step // self.task.epoch_steps + 1
            self.notify("neurai_after_step", step=step, epoch=epoch, loss=loss, accuracy=accuracy)

    def _finish(self, epoch: int, clock: _Clock) -> None:
        values = epoch_values(self.task, self.progress.totals, self.test(self.progress.params, self.progress.state))
        self._warn_if_rising(values)
        if not math.isfinite(values.get("test_loss", 0.0)):
            raise NotFinite("test", self.done, self.progress.last_finite)
        row = Row(epoch + 1, self.done, values, clock.step_ms)
        self.rows.append(row)
        self.callbacks.epoch(row, self.progress)
        self.notify("neurai_after_epoch", epoch=row.epoch, metrics=values)
        self.agreed(1)

    def _warn_if_rising(self, reported: Mapping[str, Any]) -> None:
        """Warn once per run if a relaxation went uphill or ended in NaN: its gradients are meaningless."""
        change = reported.get(f"aux/{ENERGY_CHANGE}", 0.0)
        if not (self.warned or change <= 0) and rises(change, reported["train_loss"]):
            self.warned = True
            warnings.warn(RisingEnergy(float(change)), stacklevel=4)

    def warn_if_worse(self) -> None:
        """Warn if the losses ended far above the test loss of the untrained parameters."""
        if not self.rows:
            return
        start, values = self.start_loss, self.rows[-1].values
        ends = ("test_loss",) if self.task.own_loss else ("train_loss", "test_loss")
        end = min(values.get(name, -math.inf) for name in ends)  # one alone may rise, as when a network overfits
        if end - start > (FAR - 1) * abs(start):
            warnings.warn(
                f"The loss ended at {end:.3g}, far above the {start:.3g} at which it started: training made the "
                "network worse. Lower --lr, or look at the settings of the rule.",
                RuntimeWarning,
                stacklevel=3,
            )

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a hook of the observers; one that says why to stop ends training, one that raises has it saved."""
        try:
            self.wish = self.callbacks.notify(hook, **arguments) or self.wish
        except BaseException:
            self.callbacks.interrupted(self.progress)
            raise

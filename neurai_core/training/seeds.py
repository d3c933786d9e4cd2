"""Several seeds of one task, or values of its numbers: vmapped into one compiled program, as many as memory allows.

How many fit is decided by XLA's own account of the compiled program: the bytes of its arguments, results and temporary
arrays, against the free memory of the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import canonicalize_dtype

from neurai_core.arrays import PyTree
from neurai_core.data import Dataset, order
from neurai_core.errors import NeurAIError
from neurai_core.stored import free_memory
from neurai_core.training.evaluation import Applied, evaluator_of_several, one_of
from neurai_core.training.host_data import gatherer, on_device, prefetched, sender
from neurai_core.training.loop import epoch_values
from neurai_core.training.step import Progress, begin, check_closed, rows_used, start_function, step_function
from neurai_core.training.task import Task

SHARE = 0.7  # of the free memory that the seeds of a program may take
WAIT = 32  # steps that are started before the host waits for them


@dataclass
class SeedRun:
    """What training with one seed gave.

    Attributes:
        seed: the seed.
        rows: one per epoch, that before training included: ``epoch``, ``step``, ``seconds`` spent in steps so far, and
            the metrics of a run.
        failed: the step at which a loss was not finite, after which nothing is recorded; None if none was.
        seen: what ``each_epoch`` returned, one per row.
        at_end: what ``at_end`` returned.
    """

    seed: int
    rows: list[dict[str, float]] = field(default_factory=list)
    failed: int | None = None
    seen: list[Any] = field(default_factory=list)
    at_end: Any = None


@dataclass(frozen=True)
class Looks:
    """Functions of parameters and state of one seed, called outside the timed steps; each one is optional."""

    each_epoch: Callable[[PyTree, PyTree], Any] | None = None
    at_end: Callable[[PyTree, PyTree], Any] | None = None
    told: Callable[[int, Sequence[SeedRun]], None] = lambda epoch, runs: None


@dataclass(frozen=True)
class Told:
    """Functions called during a comparison or a sweep; each one is optional.

    Attributes:
        note: ``(sentence)``.
        begin: ``(folder)``: the settings are checked, training follows.
        epoch: ``(what, epoch, epochs, runs)`` after every epoch of a rule or of a program, and before the first.
        kept: ``(what)``: the results of a rule or of a program are already in the folder.
    """

    note: Callable[[str], None] = lambda sentence: None
    begin: Callable[[Path | None], None] = lambda folder: None
    epoch: Callable[[str, int, int, Sequence[SeedRun]], None] = lambda what, epoch, epochs, runs: None
    kept: Callable[[str], None] = lambda what: None


@dataclass(frozen=True)
class Numbers:
    """Numbers by which tasks differ besides their seeds. They are traced, so that one program serves all values.

    Attributes:
        values: by name, one for every task.
        applied: ``(task, numbers) -> `` the task with numbers by name, called inside a program.
    """

    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    applied: Applied = lambda task, numbers: task

    def at(self, places: Sequence[int]) -> Numbers:
        """Those of some of the tasks."""
        return replace(self, values={name: [given[at] for at in places] for name, given in self.values.items()})

    def arrays(self) -> dict[str, Any]:
        """By name, ``(tasks,)``."""
        return {name: jnp.asarray(given, float) for name, given in self.values.items()}


class NeedsNumbers(Exception):
    """A rule or an optimizer needs a number to build its program, so that one cannot serve all values."""


@dataclass(frozen=True)
class TrainedSeeds:
    """What training several seeds gave.

    Attributes:
        runs: one per seed.
        together: number of seeds in one program.
        bytes: memory of a step per seed.
    """

    runs: list[SeedRun]
    together: int
    bytes: int


def train_seeds(
    tasks: Sequence[Task],
    looks: Looks | None = None,
    *,
    together: int | None = None,
    numbers: Numbers | None = None,
) -> TrainedSeeds:
    """Train tasks that differ only in their seed and in what follows from it, or in numbers of their settings.

    The results of every task are those of `neurai_core.training.loop.train_task`, to rounding.

    Args:
        tasks: one per seed, with the same data, which are no stream; with numbers, the same object for all values of
            a seed.
        looks: functions to call after every epoch.
        together: number of tasks in one program; None takes as many as fit.
        numbers: what else the tasks differ in.

    Raises:
        NeedsNumbers: one program cannot serve all values of the numbers; raised before training.

    Example:
        >>> from neurai_core.training.settings import choose
        >>> from neurai_core.training.task import prepare
        >>> flags = {"rule": "bp", "model": "mlp:8", "epochs": 1, "batch_size": 100}
        >>> tasks = [prepare(choose(flags | {"seed": seed}, environ={})) for seed in (0, 1)]
        >>> trained = train_seeds(tasks)
        >>> [[row["step"] for row in run.rows] for run in trained.runs], trained.together
        ([[0, 14], [0, 14]], 2)
    """
    looks, numbers = looks or Looks(), numbers or Numbers()
    programs = _Programs(tasks, numbers)
    size = together or programs.fitting()
    size = math.ceil(len(tasks) / math.ceil(len(tasks) / size))  # groups of one size are compiled once
    places = [range(at, min(at + size, len(tasks))) for at in range(0, len(tasks), size)]
    groups = [(tasks[here.start : here.stop], numbers.at(here)) for here in places]
    runs = [run for group, own in groups for run in _Group(group, own, programs, looks).run()]
    return TrainedSeeds(runs, size, _bytes(programs.of(size)) // size)


# ---------------------------------------------------------------------------- one program for several seeds


class _Group:
    """Tasks that are trained together."""

    def __init__(self, tasks: Sequence[Task], numbers: Numbers, programs: _Programs, looks: Looks) -> None:
        self.tasks, self.task, self.programs, self.looks = tasks, tasks[0], programs, looks
        self.numbers, self.arrays = numbers, numbers.arrays()
        self.data = cast(Dataset, self.task.data)
        self.step = programs.of(len(tasks))
        self.test = evaluator_of_several(self.task, len(tasks), numbers.applied)
        self.seeds = np.array([task.seed for task in tasks], np.uint32)
        self.feed = _placed(tasks) if on_device(self.data) else _gathered(tasks)
        self.runs = [SeedRun(task.seed) for task in tasks]
        self.seconds = 0.0

    def run(self) -> list[SeedRun]:
        progress = self.programs.begun(self.tasks, self.numbers)
        self._record(0, progress)
        for epoch in range(self.task.epochs):
            progress = self._epoch(epoch, progress)
            self._record(epoch + 1, progress)
            if all(run.failed is not None for run in self.runs):
                break
        return self.runs

    def _epoch(self, epoch: int, progress: Progress) -> Progress:
        n = len(self.data.x_train)
        used = {seed: order(seed, epoch, n)[: rows_used(self.task)] for seed in {task.seed for task in self.tasks}}
        rows = np.stack([used[task.seed] for task in self.tasks])
        with closing(self.feed(rows)) as batches:
            jax.block_until_ready(progress)
            start = time.perf_counter()
            for step, batch in zip(range(self.task.epoch_steps), batches, strict=False):
                progress = self.step(progress, self.seeds, self.arrays, *batch)
                if step % WAIT == 0:
                    progress.step.block_until_ready()
            jax.block_until_ready(progress)
        self.seconds += (time.perf_counter() - start) / len(self.tasks)
        return progress

    def _record(self, epoch: int, progress: Progress) -> None:
        counted = jax.device_get((progress.step, progress.bad, progress.totals))
        tested = self.test(progress.params, progress.state, self.arrays)
        for at, run in enumerate(self.runs):
            steps, bad, totals = jax.tree.map(itemgetter(at), counted)
            if run.failed is None and self._record_one(epoch, run, steps, bad, totals, tested[at]):
                self._look(epoch, run, (progress.params, progress.state), at)
        self.looks.told(epoch, self.runs)

    def _record_one(
        self, epoch: int, run: SeedRun, steps: Any, bad: Any, totals: Any, tested: tuple[float, float]
    ) -> bool:
        """Add the row of an epoch; False if a loss was not finite."""
        step = int(steps)
        if bad >= 0 or (len(self.data.x_test) and not math.isfinite(tested[0])):
            run.failed = int(bad) if bad >= 0 else step
            return False
        values = epoch_values(self.task, totals, tested)
        if epoch == 0:  # no step was done, so only the test means anything
            values = {name: value for name, value in values.items() if name.startswith("test_")}
        run.rows.append({"epoch": epoch, "step": step, "seconds": self.seconds, **values})
        return True

    def _look(self, epoch: int, run: SeedRun, stacked: tuple[PyTree, PyTree], at: int) -> None:
        at_end = self.looks.at_end if epoch == self.task.epochs else None
        if self.looks.each_epoch or at_end:
            own = one_of(stacked, at)
            if self.looks.each_epoch:
                run.seen.append(self.looks.each_epoch(*own))
            if at_end:
                run.at_end = at_end(*own)


Feed = Callable[[np.ndarray], Generator[tuple[jax.Array, ...]]]  # what a step takes, by the rows of all tasks in order


def _placed(tasks: Sequence[Task]) -> Feed:
    """All rows are on the device, where a step finds those of its batches."""
    data = cast(Dataset, tasks[0].data)
    x, y = (jax.device_put(np.asarray(one)) for one in (data.x_train, data.y_train))

    def feed(rows: np.ndarray) -> Generator[tuple[jax.Array, ...]]:
        given = (x, y, jax.device_put(rows.astype(np.int32)))
        return (given for _ in repeat(None))

    return feed


def _gathered(tasks: Sequence[Task]) -> Feed:
    """The batches of all tasks are read while the step before is computed."""
    task, data = tasks[0], cast(Dataset, tasks[0].data)
    send, gather = sender([data.x_train, data.y_train]), gatherer(data)

    def read(rows: np.ndarray) -> Iterator[tuple[jax.Array, ...]]:
        for at in range(0, rows.shape[1], task.batch_size):
            found = [gather(own) for own in rows[:, at : at + task.batch_size]]
            yield send([np.stack(parts) for parts in zip(*found, strict=True)])

    def feed(rows: np.ndarray) -> Generator[tuple[jax.Array, ...]]:
        yield from prefetched(read(rows))

    return feed


def check_started(task: Task) -> None:
    """Check a task as far as that is possible without computing.

    Raises:
        PluginError: the rule breaks its contract.
    """
    jax.eval_shape(start_function(task), task.params, task.model_state, np.int64(task.seed))


# ---------------------------------------------------------------------------- compiled programs


class _Programs:
    """What several tasks start from, and the compiled steps of so many of them."""

    def __init__(self, tasks: Sequence[Task], numbers: Numbers) -> None:
        self.tasks, self.numbers = tasks, numbers
        self.made: dict[int, Any] = {}
        self.start = cache(self._start)

    def of(self, size: int) -> Any:
        """The step of so many tasks."""
        if size not in self.made:
            self.made[size] = self._traced(size).lower().compile()
        return self.made[size]

    def fitting(self) -> int:
        """The number of tasks that fit into memory together."""
        free, n = SHARE * free_bytes(), len(self.tasks)
        if n == 1 or _bytes(self.of(n)) <= free:
            return n
        return max(1, min(n - 1, int(free // max(_bytes(self.of(1)), 1))))

    def begun(self, tasks: Sequence[Task], numbers: Numbers) -> Progress:
        """The initial progress of some of the tasks; with numbers, one program for every seed."""
        if not numbers.values:
            stacked: Progress = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(begin, tasks))
            return stacked
        own = {id(task): task for task in tasks}
        places = [[at for at, one in enumerate(tasks) if one is task] for task in own.values()]
        parts = [
            jax.vmap(self.start(task))(numbers.at(here).arrays())
            for task, here in zip(own.values(), places, strict=True)
        ]
        back = np.argsort(np.concatenate(places))
        started: Progress = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)
        return started

    def _start(self, task: Task) -> Callable[[Any], Progress]:
        """``numbers -> `` the initial progress of a task; traced once, for its shapes and to be run."""

        def start(given: Any) -> Progress:
            made = self.numbers.applied(task, given)
            return start_function(made)(made.params, made.model_state, task.seed)

        return jax.jit(start)

    def _traced(self, size: int) -> Any:
        try:
            return _traced(self.tasks[0], size, self.numbers, self.start)
        except (TypeError, ValueError, NeurAIError) as error:
            if not self.numbers.values:
                raise
            raise NeedsNumbers from error


def _traced(task: Task, n: int, numbers: Numbers, start: Callable[[Task], Callable[[Any], Progress]]) -> Any:
    """The step of n tasks: ``(progress, seeds, numbers, x, y, rows) -> progress``; the progress is donated.

    Without rows if the data are not on the device; x and y are then the batches of all tasks.
    """

    def one(progress: Progress, seed: jax.Array, given: Any, *batch: jax.Array) -> Progress:
        made = replace(numbers.applied(task, given), seed=cast(int, seed))
        return step_function(made)(progress, *batch)

    def several(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((n, *leaf.shape), leaf.dtype)

    data, first = cast(Dataset, task.data), numbers.at([0]).arrays()
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), first)
    started = jax.eval_shape(start(task), given) if first else begin(task)
    axes: tuple[int | None, ...] = (0, 0)
    batch = tuple(map(several, task.problem.batch))
    if on_device(data):
        parts = (data.x_train, data.y_train)
        x, y = (jax.ShapeDtypeStruct(part.shape, canonicalize_dtype(part.dtype)) for part in parts)
        batch, axes = (x, y, jax.ShapeDtypeStruct((n, rows_used(task)), "int32")), (None, None, 0)
    step = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, *axes)), donate_argnums=0)
    seeds = jax.ShapeDtypeStruct((n,), "uint32")
    traced = step.trace(jax.tree.map(several, started), seeds, jax.tree.map(several, given), *batch)
    check_closed(jax.tree.map(several, started), traced.out_info)
    return traced


def _bytes(compiled: Any) -> int:
    """The memory of a compiled program; what it donates counts once."""
    used = compiled.memory_analysis()
    if used is None:  # a device that does not tell
        return 0
    whole = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
    return int(whole - used.alias_size_in_bytes)


def free_bytes() -> float:
    """The free memory of the device; infinite if neither it nor the system tells.

    >>> free_bytes() > 0
    True
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return free_memory()

"""Runs: from settings to a folder that holds all results, and from which a run can be repeated or continued.

```
runs/<time>-<rule>-<data>/
    config.toml             everything that determines the run
    metrics.jsonl           one line per epoch
    checkpoints/            the newest two states, to continue from bit for bit
    params.safetensors      the parameters and the state at the end, or the last good ones
    learning_curve.png
```
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import OutputError
from neurai_core.registry import REGISTRY
from neurai_core.registry.observing import Observers
from neurai_core.rule import State, model_state_of
from neurai_core.training import checkpoint
from neurai_core.training.callbacks import Callbacks, Row
from neurai_core.training.loop import NotFinite, Trained, train_task
from neurai_core.training.observed import observed
from neurai_core.training.record import CONFIG, append_metrics, compare, history, read_metrics, write_config
from neurai_core.training.settings import Chosen, choose
from neurai_core.training.step import Progress, Snapshot, begin, compiled, restored, saved
from neurai_core.training.stopping import Stopped, stop_on_signals
from neurai_core.training.task import BY_NAME, Objects, Task, prepare

PARAMS, PICTURE, CHECKPOINTS = "params.safetensors", "learning_curve.png", "checkpoints"


class Ended(NamedTuple):
    """The end of a run.

    Attributes:
        task: what was trained.
        trained: the result of training.
        result: what `train` returns.
    """

    task: Task
    trained: Trained
    result: dict[str, Any]


def train(chosen: Chosen, out: Path | None = None, callbacks: Callbacks | None = None) -> dict[str, Any]:
    """Train with the chosen settings, from the beginning.

    Args:
        chosen: the settings, from `choose`.
        out: the folder; None for ``runs/<time>-<rule>-<data>``.
        callbacks: functions to call during training.

    Returns:
        ``rule, data, train_loss, train_accuracy, test_loss, test_accuracy, steps, step_ms, run``; the
        accuracies are None for a regression. A run with ``align`` adds ``alignment``: ``cosine`` and ``norm_ratio``
        by the names of the entries of the parameters, means over the last epoch. A rule whose training loss is its own
        adds ``own_loss``: what it is. A run that an observer stopped
        adds ``stopped``: why.

    Raises:
        OutputError: the folder is not empty, or cannot be written; raised before anything is computed.
        TrainingError: a loss was not finite, or a signal stopped training; the current state is saved.
        UsageError: the settings, the data and the model do not fit together.
    """
    return start(chosen, out, callbacks).result


def start(
    chosen: Chosen, out: Path | None = None, callbacks: Callbacks | None = None, objects: Objects = BY_NAME
) -> Ended:
    """`train`, also with parts that are given as objects."""
    callbacks = callbacks or Callbacks()
    folder = _default_folder(chosen) if out is None else _new_folder(out)
    try:
        task = _prepared(chosen, callbacks, objects)
        progress = begin(task)
        write_config(folder, chosen, task)
    except BaseException:
        _remove_if_empty(folder)
        raise
    return _Run(task, folder, callbacks).go(progress)


def resume(folder: Path, callbacks: Callbacks | None = None) -> dict[str, Any]:
    """Continue a run from its newest undamaged checkpoint, bit for bit as if it had never stopped.

    Raises:
        OutputError: the folder holds no run.
        TrainingError: as for `train`.
    """
    return go_on(folder, _settings_of(folder), callbacks).result


def go_on(folder: Path, chosen: Chosen, callbacks: Callbacks | None = None, objects: Objects = BY_NAME) -> Ended:
    """`resume`, with settings and objects given by the caller."""
    callbacks = callbacks or Callbacks()
    task = _prepared(chosen, callbacks, objects)
    progress = _restored(folder, begin(task), callbacks)
    return _Run(task, folder, callbacks).go(progress)


def finished(folder: Path, callbacks: Callbacks | None = None) -> tuple[Task, Snapshot]:
    """Load the task of a run with its final parameters and state.

    Raises:
        OutputError: the folder holds no run, or one without saved parameters.
        DataError: the parameter file is damaged.
    """
    task = _prepared(_settings_of(folder), callbacks or Callbacks())
    if not (folder / PARAMS).is_file():
        raise OutputError(f"{folder} holds a run without {PARAMS}.", f"Finish it: neurai train --resume {folder}")
    start = begin(task)
    like = _kept(Snapshot(start.params, start.state))
    kept, _ = checkpoint.load(folder / PARAMS, like, may_differ="own")  # older runs did not keep it
    return task, Snapshot(
        kept["params"], State(kept["model_state"], kept["own"]) if "own" in kept else kept["model_state"]
    )


def dry_run(chosen: Chosen, callbacks: Callbacks | None = None) -> dict[str, Any]:
    """Compile a step and check all shapes, without training and without writing anything.

    Returns:
        ``rule, data, model, parameters, steps, compile_s, dry_run``.
    """
    task = _prepared(chosen, callbacks or Callbacks())
    start = time.perf_counter()
    compiled(task, begin(task))
    return {
        "rule": chosen.settings.rule,
        "data": task.data.name,
        "model": chosen.settings.model,
        "parameters": task.n_params,
        "steps": task.steps,
        "compile_s": round(time.perf_counter() - start, 3),
        "dry_run": True,
    }


# ---------------------------------------------------------------------------- folders


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return os.path.isfile(folder / CONFIG)  # unlike the methods of a path, accepts names that are too long


def _default_folder(chosen: Chosen) -> Path:
    """Make a new folder; two runs that start in the same second get different ones."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{chosen.settings.rule}-{chosen.settings.data}"
    for number in itertools.count(1):
        folder = Path("runs", name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError), _writing(folder):
            folder.mkdir(parents=True)
            break
    return folder


def _new_folder(folder: Path) -> Path:
    """Make the folder, or check that it is empty, and that files can be written into it."""
    if holds_run(folder):
        raise OutputError(
            f"{folder} already holds a run.",
            f"Choose another --out, or go on with: neurai train --resume {folder}",
        )
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and it holds no run.", "Choose another --out.")
        with tempfile.TemporaryFile(dir=folder):
            return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.", "Choose another folder with --out."
        ) from error


def _settings_of(folder: Path) -> Chosen:
    """The settings of the run in a folder."""
    if not holds_run(folder):
        raise OutputError(f"{folder} holds no run: it has no {CONFIG}.", "Give the folder of a run, runs/<name>.")
    return choose(file=folder / CONFIG, environ={})


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


# ---------------------------------------------------------------------------- one run


def _prepared(chosen: Chosen, callbacks: Callbacks, objects: Objects = BY_NAME) -> Task:
    task = prepare(chosen, objects)
    for difference in compare(chosen, task):
        callbacks.note(f"The numbers may differ from those of the configuration: {difference}.")
    callbacks.compiling()
    return task


def _restored(folder: Path, like: Progress, callbacks: Callbacks) -> Progress:
    """The progress of the run; the start if it was stopped before the first checkpoint."""
    if not checkpoint.any_in(folder / CHECKPOINTS):
        return like
    # A rule may report more, or less, than when the run began; of what is new, this epoch has no mean.
    unknown = like._replace(totals={name: jnp.full_like(total, jnp.nan) for name, total in like.totals.items()})
    kept, _, damaged = checkpoint.newest(folder / CHECKPOINTS, saved(unknown), may_differ="totals")
    for error in damaged:
        callbacks.note(f"{error.message} The checkpoint before it is used.")
    return restored(kept)


@dataclass
class _Run:
    """One run in its folder."""

    task: Task
    folder: Path
    callbacks: Callbacks
    observers: Observers = field(default_factory=REGISTRY.observers)

    def go(self, progress: Progress) -> Ended:
        """Train from there to the end, and save in any case."""
        rows = read_metrics(self.folder, up_to_step=int(progress.step))
        with observed(self.task), stop_on_signals() as asked:
            trained = self._train(progress, history(rows), asked)
            if trained.stopped:
                self._save_within_epoch(trained.progress)
            self._keep(Snapshot(trained.progress.params, trained.progress.state))
        if asked.signum is not None and trained.stopped:
            self._draw()
            raise Stopped(asked.signum, int(trained.progress.step), self.folder)
        result = self._result(trained)
        self.callbacks.result(result)
        self._draw()
        return Ended(self.task, trained, result)

    def _train(self, progress: Progress, before: list[dict[str, float]], asked: Callable[[], bool]) -> Trained:
        own = replace(
            self.callbacks,
            epoch=self._after_epoch,
            stop=asked,
            notify=self.observers.notify,
            watch_steps=self.observers.watch_steps,
            history=before,
            interrupted=self._save_within_epoch,
        )
        try:
            return train_task(self.task, progress, own)
        except NotFinite as error:
            self._keep(error.last_finite)
            self._draw()
            error.message += f" They are in {self.folder / PARAMS}."
            raise

    def _after_epoch(self, row: Row, progress: Progress) -> None:
        append_metrics(self.folder, row.as_dict())
        self._save(progress)
        self.callbacks.epoch(row, progress)

    def _save_within_epoch(self, progress: Progress) -> None:
        """Save where training was stopped; at the end of an epoch, it is saved together with its metrics."""
        if int(progress.step) % self.task.epoch_steps:
            self._save(progress)

    def _save(self, progress: Progress) -> None:
        step = int(progress.step)
        path = checkpoint.save_step(self.folder / CHECKPOINTS, step, saved(progress), {"step": step})
        self.observers.notify("neurai_checkpoint", step=step, path=path)

    def _keep(self, trained: Snapshot) -> None:
        checkpoint.save(self.folder / PARAMS, _kept(trained))

    def _draw(self) -> None:
        from neurai_core.report.pictures import learning_curve  # matplotlib is slow to import

        rows = read_metrics(self.folder)
        if rows:
            title = f"{self._rule()} on {self.task.data.name}"
            learning_curve(
                rows, self.folder / PICTURE, title=title, own_loss=self.task.own_loss, probe=self.task.unsupervised
            )

    def _rule(self) -> str:
        return self.task.rule_name

    def _result(self, trained: Trained) -> dict[str, Any]:
        """The result of the run; one that was continued after its end has the time of its last epoch."""
        rows = read_metrics(self.folder)
        last = rows[-1] if rows else {}  # an observer may stop a run within its first epoch
        step_ms = last.get("step_ms") if math.isnan(trained.step_ms) else round(trained.step_ms, 4)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        alignment = _alignment(last)
        return {
            "rule": self._rule(),
            "data": self.task.data.name,
            **{name: last.get(name) for name in names},
            "steps": int(trained.progress.step),
            "step_ms": step_ms,
            "run": str(self.folder),
            **({"own_loss": self.task.own_loss} if self.task.own_loss else {}),
            **({"probe": True} if self.task.unsupervised else {}),
            **({"stopped": trained.reason} if trained.reason else {}),
            **({"alignment": alignment} if alignment else {}),
        }


def _kept(trained: Snapshot) -> dict[str, PyTree]:
    """What a run keeps of a trained network: all that ``predict`` of its rule needs."""
    state = trained.state
    own = {"own": state.own} if isinstance(state, State) else {}
    return {"params": trained.params, "model_state": model_state_of(state), **own}


def _alignment(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The alignment of every entry of the parameters in a row of metrics: ``{"cosine": {"0": 0.98, ...}, ...}``."""
    found: dict[str, dict[str, float]] = {}
    for key, value in row.items():
        aux, _, rest = key.partition("/alignment/")
        if aux == "aux":
            measure, _, entry = rest.partition("/")
            found.setdefault(measure, {})[entry] = value
    return found

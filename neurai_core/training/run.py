"""A run: settings in, a folder out that holds all of it and from which it can be repeated or continued.

```
runs/<time>-<rule>-<data>/
    config.toml             everything that decides the run
    metrics.jsonl           one line per epoch
    checkpoints/            the newest two states, to continue from to the same bits
    params.safetensors      the parameters at the end, or the last good ones
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurai_core.errors import OutputError
from neurai_core.observing import Observers
from neurai_core.registry import REGISTRY
from neurai_core.rule import model_state_of
from neurai_core.training import checkpoint
from neurai_core.training.fit import Fitted, NotFinite, Row, Watch, fit
from neurai_core.training.record import CONFIG, append_metrics, compare, read_metrics, write_config
from neurai_core.training.settings import Chosen, choose
from neurai_core.training.step import Progress, Snapshot, begin, compiled, restored, saved
from neurai_core.training.stopping import Stopped, stop_on_signals
from neurai_core.training.task import Task, prepare

PARAMS, PICTURE, CHECKPOINTS = "params.safetensors", "learning_curve.png", "checkpoints"


@dataclass(frozen=True)
class Viewer:
    """Whom a run tells how it goes; every one may be left out.

    Attributes:
        compiling: ``()``: the step is compiled now, which takes seconds.
        begin: ``(task, steps done, folder)``: everything is compiled.
        steps: ``(steps done)``.
        epoch: ``(row of metrics)``.
        note: ``(sentence)``: something to know that is no error.
    """

    compiling: Callable[[], None] = lambda: None
    begin: Callable[[Task, int, Path], None] = lambda task, done, folder: None
    steps: Callable[[int], None] = lambda step: None
    epoch: Callable[[dict[str, Any]], None] = lambda row: None
    note: Callable[[str], None] = lambda sentence: None


def train(chosen: Chosen, out: Path | None = None, viewer: Viewer | None = None) -> dict[str, Any]:
    """Train as chosen, from the beginning.

    Args:
        chosen: the settings, from `choose`.
        out: the folder; None for ``runs/<time>-<rule>-<data>``.
        viewer: whom to tell.

    Returns:
        ``rule, data, train_loss, train_accuracy, test_loss, test_accuracy, steps, step_ms, run``; the
        accuracies are None for a regression. A run with ``align`` adds ``alignment``: ``cosine`` and ``norm_ratio``
        by the names of the entries of the parameters, means over the last epoch.

    Raises:
        OutputError: the folder holds something, or cannot be written; raised before anything is computed.
        TrainingError: a loss was not finite, or a signal asked to stop; what stood is saved.
        UsageError: the settings, the data and the model do not fit each other.
    """
    viewer = viewer or Viewer()
    folder = _default_folder(chosen) if out is None else _new_folder(out)
    try:
        task = _prepared(chosen, viewer)
        start = begin(task)
        write_config(folder, chosen, task)
    except BaseException:
        _remove_if_empty(folder)
        raise
    return _Run(task, folder, viewer).go(start)


def resume(folder: Path, viewer: Viewer | None = None) -> dict[str, Any]:
    """Continue a run from its newest undamaged checkpoint, to the same bits as if it had never stopped.

    Raises:
        OutputError: the folder holds no run.
        TrainingError: as for `train`.
    """
    viewer = viewer or Viewer()
    task = _prepared(_settings_of(folder), viewer)
    progress = _restored(folder, begin(task), viewer)
    return _Run(task, folder, viewer).go(progress)


def finished(folder: Path, viewer: Viewer | None = None) -> tuple[Task, Snapshot]:
    """What a run trained, and the parameters and state that it ended with.

    Raises:
        OutputError: the folder holds no run, or one that kept no parameters yet.
        DataError: the file of the parameters is damaged.
    """
    task = _prepared(_settings_of(folder), viewer or Viewer())
    if not (folder / PARAMS).is_file():
        raise OutputError(f"{folder} holds a run without {PARAMS}.", f"Finish it: neurai train --resume {folder}")
    start = begin(task)
    like = {"params": start.params, "model_state": model_state_of(start.state)}
    kept, _ = checkpoint.load(folder / PARAMS, like)
    return task, Snapshot(kept["params"], kept["model_state"])


def dry_run(chosen: Chosen, viewer: Viewer | None = None) -> dict[str, Any]:
    """Compile a step and check all shapes, without training and without writing anything.

    Returns:
        ``rule, data, model, parameters, steps, compile_s, dry_run``.
    """
    task = _prepared(chosen, viewer or Viewer())
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


def _default_folder(chosen: Chosen) -> Path:
    """Make a folder that did not exist; two runs that start in one second get two."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{chosen.settings.rule}-{chosen.settings.data}"
    for number in itertools.count(1):
        folder = Path("runs", name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError), _writing(folder):
            folder.mkdir(parents=True)
            break
    return folder


def _new_folder(folder: Path) -> Path:
    """Make the folder, or find it empty, and see that files can be written into it."""
    if os.path.exists(folder / CONFIG):  # unlike the methods of a path, takes names that are too long
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
    if not os.path.isfile(folder / CONFIG):
        raise OutputError(f"{folder} holds no run: it has no {CONFIG}.", "Give the folder of a run, runs/<name>.")
    return choose(file=folder / CONFIG, environ={})


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


# ---------------------------------------------------------------------------- one run


def _prepared(chosen: Chosen, viewer: Viewer) -> Task:
    task = prepare(chosen)
    for difference in compare(chosen, task):
        viewer.note(f"The numbers may differ from those of the configuration: {difference}.")
    viewer.compiling()
    return task


def _restored(folder: Path, like: Progress, viewer: Viewer) -> Progress:
    """Where the run stands; its beginning when it was stopped before the first checkpoint."""
    if not checkpoint.any_in(folder / CHECKPOINTS):
        return like
    kept, _, damaged = checkpoint.newest(folder / CHECKPOINTS, saved(like))
    for error in damaged:
        viewer.note(f"{error.message} The checkpoint before it is used.")
    return restored(kept)


@dataclass
class _Run:
    """One run in its folder."""

    task: Task
    folder: Path
    viewer: Viewer
    observers: Observers = field(default_factory=REGISTRY.observers)

    def go(self, progress: Progress) -> dict[str, Any]:
        """Train from there to the end, and save whatever happens."""
        read_metrics(self.folder, up_to_step=int(progress.step))
        with stop_on_signals() as asked:
            fitted = self._fit(progress, asked)
            if fitted.stopped:
                self._save(fitted.progress)
            self._keep(Snapshot(fitted.progress.params, fitted.progress.state))
        self._draw()
        if asked.signum is not None and fitted.stopped:
            raise Stopped(asked.signum, int(fitted.progress.step), self.folder)
        return self._result(fitted.step_ms)

    def _fit(self, progress: Progress, asked: Callable[[], bool]) -> Fitted:
        watch = Watch(
            begin=lambda progress: self.viewer.begin(self.task, int(progress.step), self.folder),
            steps=self.viewer.steps,
            epoch=self._after_epoch,
            stop=asked,
            notify=self.observers.notify if len(self.observers) else None,
        )
        try:
            return fit(self.task, progress, watch)
        except NotFinite as error:
            self._keep(error.good)
            self._draw()
            error.message += f" They are in {self.folder / PARAMS}."
            raise

    def _after_epoch(self, row: Row, progress: Progress) -> None:
        values = {"epoch": row.epoch, "step": row.step, **row.values, "step_ms": round(row.step_ms, 4)}
        append_metrics(self.folder, values)
        self._save(progress)
        self.viewer.epoch(values)

    def _save(self, progress: Progress) -> None:
        step = int(progress.step)
        path = checkpoint.save_step(self.folder / CHECKPOINTS, step, saved(progress), {"step": step})
        if len(self.observers):
            self.observers.notify("neurai_checkpoint", step=step, path=path)

    def _keep(self, good: Snapshot) -> None:
        tree = {"params": good.params, "model_state": model_state_of(good.state)}
        checkpoint.save(self.folder / PARAMS, tree)

    def _draw(self) -> None:
        from neurai_core.report.pictures import learning_curve  # matplotlib is slow to import

        rows = read_metrics(self.folder)
        if rows:
            learning_curve(rows, self.folder / PICTURE, title=f"{self._rule()} on {self.task.data.name}")

    def _rule(self) -> str:
        return str(self.task.rule.origin.name)

    def _result(self, step_ms: float) -> dict[str, Any]:
        """What the run came to; a run that was continued after its end has the time of its last epoch."""
        last = read_metrics(self.folder)[-1]
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        alignment = _alignment(last)
        return {
            "rule": self._rule(),
            "data": self.task.data.name,
            **{name: last.get(name) for name in names},
            "steps": self.task.steps,
            "step_ms": last["step_ms"] if math.isnan(step_ms) else round(step_ms, 4),
            "run": str(self.folder),
            **({"alignment": alignment} if alignment else {}),
        }


def _alignment(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The alignment of every entry of the parameters in a row of metrics: ``{"cosine": {"0": 0.98, ...}, ...}``."""
    found: dict[str, dict[str, float]] = {}
    for key, value in row.items():
        aux, _, rest = key.partition("/alignment/")
        if aux == "aux":
            measure, _, entry = rest.partition("/")
            found.setdefault(measure, {})[entry] = value
    return found

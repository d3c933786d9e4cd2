"""Runs: from settings to a folder that holds all results, and from which a run can be repeated or continued.

```
runs/<time>-<rule>-<data>/
    config.toml             everything that determines the run
    metrics.jsonl           one line per epoch
    checkpoints/            the newest states, to continue from bit for bit
    params.safetensors      the parameters and the state at the end, or the last good ones
    learning_curve.png
```
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from neurai_core.arrays import PyTree
from neurai_core.errors import OutputError, SettingsError
from neurai_core.registry import REGISTRY
from neurai_core.registry.observing import Observers
from neurai_core.rule import State, model_state_of
from neurai_core.training import checkpoint
from neurai_core.training.callbacks import Callbacks, Row
from neurai_core.training.checkpoints import Checkpoints
from neurai_core.training.devices import unused
from neurai_core.training.folders import new_folder, remove_if_empty, settings_of, timed_folder
from neurai_core.training.heartbeat import own_heart
from neurai_core.training.host_data import on_device
from neurai_core.training.lock import held
from neurai_core.training.loop import NotFinite, Trained, train_task
from neurai_core.training.observed import observed
from neurai_core.training.record import append_metrics, compare, decides, history, read_metrics, versions, write_config
from neurai_core.training.saving import USUAL, Options
from neurai_core.training.settings import Chosen, RunSettings
from neurai_core.training.step import Progress, Snapshot, begin, compiled, restored, whole
from neurai_core.training.stopping import Stopped, StopRequest, obey, stop_on_signals
from neurai_core.training.task import BY_NAME, Objects, Task, prepare
from neurai_core.training.team import Team, team

PARAMS, PICTURE = "params.safetensors", "learning_curve.png"


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


def train(
    chosen: Chosen, out: Path | None = None, callbacks: Callbacks | None = None, options: Options = USUAL
) -> dict[str, Any]:
    """Train with the chosen settings, from the beginning.

    Args:
        chosen: the settings, from `choose`.
        out: the folder; None for ``runs/<time>-<rule>-<data>``.
        callbacks: functions to call during training.
        options: how the run is saved.

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
    return start(chosen, out, callbacks, options).result


def start(
    chosen: Chosen,
    out: Path | None = None,
    callbacks: Callbacks | None = None,
    options: Options = USUAL,
    objects: Objects = BY_NAME,
) -> Ended:
    """`train`, also with parts that are given as objects."""
    callbacks = callbacks or Callbacks()
    settings, all_of_us = chosen.settings, team()
    folder = Path(
        all_of_us.first(
            lambda: str(timed_folder("runs", settings.rule, settings.data) if out is None else new_folder(out))
        )
    )
    try:
        with _held_by_one(folder, all_of_us):
            task = _prepared(chosen, callbacks, options, objects)
            progress = begin(task)
            one = _Run(chosen, task, folder, callbacks, options)
            one.agree(progress)
            one.write_config()
            return one.go(progress)
    finally:
        if all_of_us.writes:
            remove_if_empty(folder)


def resume(
    folder: Path,
    callbacks: Callbacks | None = None,
    options: Options = USUAL,
    flags: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Continue a run from its newest undamaged checkpoint, bit for bit as if it had never stopped.

    Args:
        folder: the folder of the run.
        callbacks: functions to call during training.
        options: how the run is saved.
        flags: settings that replace those of the folder; None for one that was not given. Epochs may be raised.

    Raises:
        OutputError: the folder holds no run, or another process trains in it.
        SettingsError: something that decides the bits of the run has changed since its checkpoints were written, or
            more epochs would.
        TrainingError: as for `train`.
        UsageError: the run names code whose file has changed.
    """
    callbacks = callbacks or Callbacks()

    def read() -> Chosen:
        chosen = settings_of(folder, callbacks.note, trust=options.trust, flags=flags)
        if flags.get("epochs") is not None:
            _check_more(chosen.settings, settings_of(folder, trust=options.trust).settings, force=options.force)
        return chosen

    return go_on(folder, team().one_after_the_other(read), callbacks, options).result


def go_on(
    folder: Path,
    chosen: Chosen,
    callbacks: Callbacks | None = None,
    options: Options = USUAL,
    objects: Objects = BY_NAME,
) -> Ended:
    """`resume`, with objects and with settings that may be the caller's; these become those of the folder."""
    callbacks = callbacks or Callbacks()
    with _held_by_one(folder, team()):
        task = _prepared(chosen, callbacks, options, objects)
        one = _Run(chosen, task, folder, callbacks, options)
        with one.team.together():
            progress = one.restored(begin(task))
        one.agree(progress)
        if not chosen.record or any(at.startswith("--") for at in chosen.sources.values()):  # not only the folder's
            one.write_config()
        return one.go(progress)


def finished(folder: Path, callbacks: Callbacks | None = None, *, trust: bool = False) -> tuple[Task, Snapshot]:
    """Load the task of a run with its final parameters and state.

    Raises:
        OutputError: the folder holds no run, or one without saved parameters.
        DataError: the parameter file is damaged.
    """
    callbacks = callbacks or Callbacks()
    chosen = settings_of(folder, callbacks.note, trust=trust).on_one_device()
    task = _prepared(chosen, callbacks, Options(trust=trust))
    if not (folder / PARAMS).is_file():
        raise OutputError(f"{folder} holds a run without {PARAMS}.", f"Finish it: neurai train --resume {folder}")
    return task, snapshot_of(folder, task)


def snapshot_of(folder: Path, task: Task) -> Snapshot:
    """The parameters and the state that a run of this task has kept."""
    start = begin(task)
    like = _kept(Snapshot(start.params, start.state))
    found, _ = checkpoint.load(folder / PARAMS, like, may_differ="own")  # older runs did not keep it
    state = State(found["model_state"], found["own"]) if "own" in found else found["model_state"]
    return Snapshot(found["params"], state)


def dry_run(chosen: Chosen, callbacks: Callbacks | None = None, options: Options = USUAL) -> dict[str, Any]:
    """Compile a step and check all shapes, without training and without writing anything.

    Returns:
        ``rule, data, model, parameters, steps, compile_s, dry_run``.
    """
    task = _prepared(chosen, callbacks or Callbacks(), options)
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


# ---------------------------------------------------------------------------- one run


def _check_more(asked: RunSettings, had: RunSettings, *, force: bool) -> None:
    """Check that a run may go on to the epochs that are asked for, to the numbers that these would have given at once.

    Raises:
        SettingsError: they are fewer, or the learning rate depends on how many there are.
    """
    if asked.epochs < had.epochs:
        raise SettingsError(
            f"--epochs is {asked.epochs}, and the run has {had.epochs}.",
            "A run can be continued to more epochs, not to fewer.",
        )
    if asked.epochs > had.epochs and had.schedule != "constant" and not force:
        raise SettingsError(
            f"--epochs cannot be raised from {had.epochs} to {asked.epochs}: the learning rate falls to 0 over all of "
            f"them (schedule={had.schedule}), so the steps already taken would have been different.",
            "Start another run with --config FOLDER/config.toml --epochs N, or continue with --force (force=True): the "
            "result is then not that of a single run.",
        )


def _prepared(chosen: Chosen, callbacks: Callbacks, options: Options, objects: Objects = BY_NAME) -> Task:
    with team().together():
        task = prepare(chosen, objects)
        obey()
        team().check_devices(task.mesh)
        if idle := unused(chosen.settings.devices):
            callbacks.note(idle)
        for difference in compare(chosen, task, force=options.force, trust=options.trust):
            callbacks.note(f"The numbers may differ from those of the configuration: {difference}.")
    callbacks.compiling()
    return task if team().writes else replace(task, observers=())


@contextmanager
def _held_by_one(folder: Path, all_of_us: Team) -> Iterator[None]:
    """`held`, by the process that writes."""
    with ExitStack() as lock:
        with all_of_us.together():
            if all_of_us.writes:
                lock.enter_context(held(folder))
        yield


@dataclass
class _Run:
    """One run in its folder. Of several processes, one writes and has observers, and all do the same otherwise."""

    chosen: Chosen
    task: Task
    folder: Path
    callbacks: Callbacks
    options: Options = USUAL
    team: Team = field(default_factory=team)

    def __post_init__(self) -> None:
        self.heart = own_heart(self.team.number)
        self.observers = REGISTRY.observers() if self.team.writes else Observers(lambda entry, error: None)
        self.checkpoints = Checkpoints(
            self.folder,
            decides(self.chosen, self.task),
            self.task.epoch_steps,
            self.options,
            self.callbacks.note,
            lambda step, path: self.observers.notify("neurai_checkpoint", step=step, path=path),
            self.team,
        )

    def agree(self, progress: Progress) -> None:
        """Check that all processes are about to do the same, from the same step on."""
        if self.team.size > 1:
            once = {"epochs": self.task.epochs, "align": self.chosen.settings.align, "step": int(progress.step)}
            once |= {"data_on_device": on_device(self.task.data)}  # which the memory of a machine decides
            once |= {"checkpoints_in_parts": self.checkpoints.in_parts(progress)}  # which orbax decides
            self.team.check_same(decides(self.chosen, self.task) | versions(self.task) | once)

    def write_config(self) -> None:
        """Write what determines the run."""
        if self.team.writes:
            write_config(self.folder, self.chosen, self.task)

    def restored(self, like: Progress) -> Progress:
        """The progress of the run; the start if it was stopped before the first checkpoint."""
        found = self.checkpoints.newest(like)
        if found is None and (read_metrics(self.folder) or (self.folder / PARAMS).exists()):
            self.callbacks.note(f"{self.folder} has no checkpoint left to continue from: the run starts over.")
        return like if found is None else restored(self.task, found)

    def go(self, progress: Progress) -> Ended:
        """Train from there to the end, and save in any case."""
        done = int(progress.step)
        rows = read_metrics(self.folder, up_to_step=done, say=self.callbacks.note) if self.team.writes else []
        self.heart.tell_run(self.folder)
        with observed(self.task), stop_on_signals() as asked, self.team.noticing_losses():
            with self.checkpoints.writing(progress):
                trained = self._train(progress, history(rows), asked)
                self.checkpoints.save_last(trained.progress)
            self._keep(Snapshot(trained.progress.params, trained.progress.state))
        if asked.signum is not None and trained.stopped:
            self._draw()
            raise Stopped(asked.signum, int(trained.progress.step), self.folder)
        result = self._result(trained)
        self.callbacks.result(result)
        self._draw()
        return Ended(self.task, trained, result)

    def _train(self, progress: Progress, before: list[dict[str, float]], asked: StopRequest) -> Trained:
        own = replace(
            self.callbacks,
            epoch=self._after_epoch,
            at_most=self.checkpoints.times.until_due,
            reached=self.checkpoints.reached,
            check_in=partial(self._check_in, asked),
            notify=self.observers.notify,
            watch_steps=self.observers.watch_steps,
            history=before,
            folder=self.folder,
            interrupted=self.checkpoints.save_within_epoch,
        )
        try:
            return train_task(self.task, progress, own)
        except NotFinite as error:
            self._keep(error.last_finite)
            self._draw()
            error.message += f" They are in {self.folder / PARAMS}."
            raise
        finally:
            self.heart.rest()

    def _check_in(self, asked: StopRequest, steps: int, reason: str) -> tuple[int, str]:
        """Agree with the other processes: all stop if one is asked to, and else take as many steps as the first."""
        self.heart.beat()
        if asked.signum is None and self.heart.orphaned:
            asked.signum = signal.SIGTERM
        if self.team.size > 1:
            told = self.team.numbers(asked.signum or 0, steps, bool(reason))
            asked.signum, steps = int(told[:, 0].max()) or None, int(told[0, 1])
            reason = reason or ("an observer of process 0 asked for it" if told[0, 2] else "")
        return 0 if asked() else steps, reason

    def _after_epoch(self, row: Row, progress: Progress) -> None:
        if self.team.writes:
            append_metrics(self.folder, row.as_dict())
        self.checkpoints.after_epoch(row.step, progress)
        self.callbacks.epoch(row, progress)

    def _keep(self, trained: Snapshot) -> None:
        kept = whole(_kept(trained), writes=self.team.writes)
        if self.team.writes:
            checkpoint.save(self.folder / PARAMS, kept)

    def _draw(self) -> None:
        if not self.team.writes:
            return
        from neurai_core.report.pictures import learning_curve  # matplotlib is slow to import

        rows = read_metrics(self.folder)
        if rows:
            title = f"{self.task.rule_name} on {self.task.data.name}"
            learning_curve(
                rows, self.folder / PICTURE, title=title, own_loss=self.task.own_loss, probe=self.task.unsupervised
            )

    def _result(self, trained: Trained) -> dict[str, Any]:
        """The result of the run; one that was continued after its end has the time of its last epoch."""
        rows = read_metrics(self.folder) if self.team.writes else [row.as_dict() for row in trained.rows]
        last = rows[-1] if rows else {}  # an observer may stop a run within its first epoch
        step_ms = last.get("step_ms") if math.isnan(trained.step_ms) else round(trained.step_ms, 4)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        alignment = _alignment(last)
        return {
            "rule": self.task.rule_name,
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

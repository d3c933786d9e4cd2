"""Sweeps: a rule with many settings; those that are numbers share one compiled program, the others span a grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax

from neurai_core.data import Dataset, check
from neurai_core.errors import NeurAIError, OutputError
from neurai_core.report.sweep import ranked
from neurai_core.training.comparison_folder import plain, read_json, read_result, write_json
from neurai_core.training.deciding import numerics
from neurai_core.training.folders import timed_folder, writing
from neurai_core.training.lock import LOCK, held
from neurai_core.training.record import versions, write_config
from neurai_core.training.seeds import Looks, Numbers, SeedRun, Trained, started_alike, train_seeds
from neurai_core.training.settings import Chosen
from neurai_core.training.swept import Plan, Program
from neurai_core.training.task import Objects, Task, named_data, prepare

PLAN, PROGRAMS, RESULTS, BEST, PICTURE = "sweep.json", "programs", "results.json", "best.toml", "sweep.png"
_DAMAGED = "Remove the file to run its program again; without sweep.json, begin anew in another folder."


@dataclass(frozen=True)
class Told:
    """Functions called during a sweep; each one is optional.

    Attributes:
        note: ``(sentence)``.
        begin: ``(folder)``: the settings are checked, training follows.
        epoch: ``(program, programs, epoch, epochs, runs)`` after every epoch, and before the first.
        kept: ``(program, programs)``: its results are already in the folder.
    """

    note: Callable[[str], None] = lambda sentence: None
    begin: Callable[[Path], None] = lambda folder: None
    epoch: Callable[[int, int, int, int, Sequence[SeedRun]], None] = lambda *arguments: None
    kept: Callable[[int, int], None] = lambda program, programs: None


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results of a sweep.

    Attributes:
        results: what ``results.json`` holds.
        folder: the folder with the results.

    Example:
        >>> Sweep({"points": [{"values": {"lr": 0.1}, "score": 0.5}], "best": 0}, Path(".")).best["values"]
        {'lr': 0.1}
    """

    results: dict[str, Any]
    folder: Path

    @property
    def best(self) -> dict[str, Any] | None:
        """The configuration with the best score; None if a seed of every one failed."""
        at = self.results["best"]
        return None if at is None else cast(dict[str, Any], self.results["points"][at])


def run(planned: Plan, out: Path | None = None, told: Told | None = None) -> Sweep:
    """Run a planned sweep in a folder, or continue it there.

    Args:
        planned: the settings.
        out: the folder; None for ``sweeps/<time>-<rule>-<data>``.
        told: functions to call on the way.

    Raises:
        OutputError: the folder holds something else, or cannot be written; raised before training.
        UsageError: the rule cannot take the model or the data; raised before anything is written.
    """
    told = told or Told()
    if out is not None:
        _refuse_other(out, planned)
    data, programs = named_data(planned.chosen[0]), planned.programs()
    firsts = [_first(planned, program, data) for program in programs]
    folder = _made(out, planned)
    with held(folder):
        told.begin(folder)
        found = [
            _of_program(planned, at, program, first, data, folder, told)
            for at, (program, first) in enumerate(zip(programs, firsts, strict=True))
        ]
        results = _results(planned, programs, firsts[0], found)
        write_json(folder / RESULTS, results)
        if results["best"] is not None:
            best = planned.chosen[results["best"]]
            write_config(folder, best, _task(best, planned.seeds[0], data), BEST)

        from neurai_core.report.sweep_picture import picture  # matplotlib is slow to import

        picture(results, folder / PICTURE)
    return Sweep(results, folder)


def _first(planned: Plan, program: Program, data: Dataset) -> Task:
    """The first task of a program, checked as far as possible without training."""
    chosen = planned.chosen[program.points[0]]
    try:
        check(data, batch_size=chosen.settings.batch_size, seed=chosen.settings.seed)
        task = _task(chosen, planned.seeds[0], data)
        started_alike(task)
    except NeurAIError as error:
        values = planned.points[program.points[0]].items()
        error.message = f"With {', '.join(f'{name}={value}' for name, value in values)}: {error.message}"
        raise
    return task


def _task(chosen: Chosen, seed: int, data: Dataset) -> Task:
    with_seed = replace(chosen, settings=chosen.settings.model_copy(update={"seed": seed}))
    return prepare(with_seed, Objects(data=data))


# ---------------------------------------------------------------------------- one program


def _of_program(
    planned: Plan, at: int, program: Program, first: Task, data: Dataset, folder: Path, told: Told
) -> dict[str, Any]:
    """The results of a program: from the folder, or from running it now."""
    path, n = folder / PROGRAMS / f"{at + 1}.json", len(planned.programs())
    if path.exists():
        told.kept(at + 1, n)
        return read_result(
            path, "points", task=first, whole="sweep", done=f"{path} was written", note=told.note, hint=_DAMAGED
        )
    looks = Looks(told=lambda epoch, runs: told.epoch(at + 1, n, epoch, first.epochs, runs))
    trained = train_program(planned, program, data, looks)
    seeds = len(planned.seeds)
    result = {
        "points": [_seeds_of(trained.runs[seeds * at : seeds * (at + 1)]) for at in range(len(program.points))],
        "together": trained.together,
        "bytes": trained.bytes,
        "data_sha256": first.data_sha256,
        "model_sha256": first.source_sha256,
        "versions": versions(first),
    }
    write_json(path, result)
    return cast(dict[str, Any], plain(result))


def train_program(planned: Plan, program: Program, data: Dataset, looks: Looks | None = None) -> Trained:
    """Train all configurations of a program with all seeds: in one compiled program if the rule allows it.

    A rule or an optimizer that needs a number to build its program gets one program for every configuration.

    Args:
        planned: the settings.
        program: its configurations.
        data: the data set.
        looks: functions to call after every epoch.

    Returns:
        The runs by configuration, then by seed.
    """
    chosen = [planned.chosen[at] for at in program.points]
    tasks = [_task(chosen[0], seed, data) for seed in planned.seeds]
    values = {name: [planned.points[at][name] for at in program.points for _ in tasks] for name in program.numbers}
    numbers = Numbers(values, lambda task, given: _with(chosen[0], task, given, data))
    if started_alike(tasks[0], numbers):
        return train_seeds(tasks * len(chosen), looks, numbers=numbers)
    each = [train_seeds([_task(one, seed, data) for seed in planned.seeds], looks) for one in chosen]
    return Trained([run for one in each for run in one.runs], each[0].together, each[0].bytes)


def _with(chosen: Chosen, task: Task, numbers: Mapping[str, Any], data: Dataset) -> Task:
    """The task with other numbers, which may be traced."""
    parts, update = {part: dict(given) for part, given in chosen.parts.items()}, {"seed": task.seed}
    for name, value in numbers.items():
        part, dot, key = name.partition(".")
        if dot:
            parts[part][key] = value
        else:
            update[name] = value
    settings = chosen.settings.model_copy(update=update)
    sources = chosen.sources | dict.fromkeys(numbers, "default")  # whether they were given in vain is known by now
    with jax.ensure_compile_time_eval():  # what does not depend on the numbers is computed once, not in every step
        return prepare(replace(chosen, settings=settings, parts=parts, sources=sources), Objects(data=data))


def _seeds_of(runs: Sequence[SeedRun]) -> list[dict[str, Any]]:
    return [{"seed": run.seed, "failed": run.failed, "rows": run.rows} for run in runs]


# ---------------------------------------------------------------------------- all together


def _results(
    planned: Plan, programs: Sequence[Program], first: Task, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    of_point = {
        at: seeds
        for program, one in zip(programs, found, strict=True)
        for at, seeds in zip(program.points, one["points"], strict=True)
    }
    score = _score(first)
    settings = planned.chosen[0].settings
    points = [{"values": values, "seeds": of_point[at]} for at, values in enumerate(planned.points)]
    return {
        "rule": settings.rule,
        "data": first.data.name,
        "model": settings.model,
        "score": score,
        "seeds": list(planned.seeds),
        "axes": [{"name": axis.name, "values": list(axis.values), "scale": axis.scale} for axis in planned.axes],
        "programs": [
            {"points": list(one.points), "together": result["together"]}
            for one, result in zip(programs, found, strict=True)
        ],
        "versions": found[0]["versions"],
        **ranked(points, score),
    }


def _score(task: Task) -> str:
    """The metric by which configurations are ranked."""
    if not len(cast(Dataset, task.data).x_test):
        return "train_loss"
    return "test_loss" if task.data.n_classes is None else "test_accuracy"


# ---------------------------------------------------------------------------- the folder


def _record(planned: Plan) -> dict[str, Any]:
    return cast(dict[str, Any], plain({**planned.record(), "numerics": numerics()}))


def _refuse_other(folder: Path, planned: Plan) -> None:
    """Check that a folder is new, or empty, or holds a part of the same sweep."""
    if not os.path.isfile(folder / PLAN):  # unlike the methods of a path, accepts names that are too long
        with writing(folder):
            if folder.is_file() or (folder.is_dir() and any(path.name != LOCK for path in folder.iterdir())):
                raise OutputError(f"{folder} is not empty, and it holds no sweep.", "Choose another --out.")
        return
    before, now = read_json(folder / PLAN, "axes", "seeds", "settings", "numerics", hint=_DAMAGED), _record(planned)
    hint = "Choose another --out, or give the settings with which it was begun."
    for what in ("axes", "seeds"):
        first, second = (", ".join(map(str, one[what])) for one in (before, now))
        if first != second:
            raise OutputError(f"{folder} holds a sweep with the {what} {first}, and asked for are {second}.", hint)
    for was, asked in ((before[part], now[part]) for part in ("axes", "settings", "numerics")):
        for name in {**was, **asked}:
            if was.get(name) != asked.get(name):
                raise OutputError(
                    f"{folder} holds a sweep in which {name} is {was.get(name)}, and asked for is {asked.get(name)}.",
                    hint,
                )


def _made(folder: Path | None, planned: Plan) -> Path:
    """Make the folder, if there is none yet, with the settings."""
    settings = planned.chosen[0].settings
    folder = folder or timed_folder("sweeps", settings.rule, settings.data)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).exists():
        write_json(folder / PLAN, _record(planned))
    return folder

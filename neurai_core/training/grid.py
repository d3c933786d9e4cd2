"""Grids: every combination of values is trained, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from neurai_core.data import Dataset
from neurai_core.report.sweep import ranked
from neurai_core.training.json_files import plain, write_json
from neurai_core.training.lock import held
from neurai_core.training.record import versions
from neurai_core.training.seeds import Looks, Told
from neurai_core.training.sweep_folder import PROGRAMS, SWEEP, made, refuse_other, write
from neurai_core.training.sweep_programs import first_task, heading, score_of, seeds_of, train_program
from neurai_core.training.swept import Configurations, Program
from neurai_core.training.task import Task, named_data


def run_grid(planned: Configurations, told: Told) -> dict[str, Any]:
    """The results of a grid, without a folder."""
    return _results(planned, *_checked(planned), None, told)


def run_grid_in(out: Path | None, planned: Configurations, told: Told) -> tuple[dict[str, Any], Path]:
    """Run a grid in a folder, or continue it there.

    Args:
        out: the folder; None for ``sweeps/<time>-<rule>-<data>``.
        planned: the settings.
        told: functions to call on the way.

    Returns:
        The results, and the folder.

    Raises:
        OutputError: the folder holds something else, or cannot be written; raised before training.
        UsageError: the rule cannot take the model or the data; raised before anything is written.
    """
    if out is not None:
        refuse_other(out, planned)
    data, programs, firsts = _checked(planned)
    folder = made(out, planned)
    with held(folder):
        told.begin(folder)
        results = _results(planned, data, programs, firsts, folder, told)
        best = None if results["best"] is None else planned.chosen[results["best"]]
        write(folder, results, best, planned.seeds[0], data)
    return results, folder


def _checked(planned: Configurations) -> tuple[Dataset, list[Program], list[Task]]:
    """The data, the programs, and the first task of each: everything checked that can be without training."""
    data, programs = named_data(planned.chosen[0]), planned.programs()
    return data, programs, [first_task(planned, program, data) for program in programs]


def _results(
    planned: Configurations,
    data: Dataset,
    programs: Sequence[Program],
    firsts: Sequence[Task],
    folder: Path | None,
    told: Told,
) -> dict[str, Any]:
    """Run every program that is not in the folder yet, and bring all results together."""
    found = [
        _of_program(planned, at, program, first, data, folder, told)
        for at, (program, first) in enumerate(zip(programs, firsts, strict=True))
    ]
    of_point = {
        at: seeds
        for program, one in zip(programs, found, strict=True)
        for at, seeds in zip(program.points, one["points"], strict=True)
    }
    points = [{"values": values, "seeds": of_point[at]} for at, values in enumerate(planned.points)]
    return {
        **heading(planned, firsts[0]),
        "axes": [{"name": axis.name, "values": list(axis.values), "scale": axis.scale} for axis in planned.axes],
        "programs": [
            {"points": list(one.points), "together": result["together"]}
            for one, result in zip(programs, found, strict=True)
        ],
        "versions": found[0]["versions"],
        **ranked(points, score_of(firsts[0])),
    }


def _of_program(
    planned: Configurations, at: int, program: Program, first: Task, data: Dataset, folder: Path | None, told: Told
) -> Mapping[str, Any]:
    """The results of a program: from the folder, or from running it now."""
    path, what = folder and folder / PROGRAMS / f"{at + 1}.json", f"program {at + 1} of {len(planned.programs())}"
    if path and path.exists():
        told.kept(what)
        done = f"{path} was written"
        return SWEEP.read_result(path, "points", task=first, done=done, note=told.note)
    looks = Looks(told=lambda epoch, runs: told.epoch(what, epoch, first.epochs, runs))
    trained = train_program(planned, program, data, looks, first)
    result = {
        "points": [seeds_of(trained, at, len(planned.seeds)) for at in range(len(program.points))],
        "together": trained.together,
        "bytes": trained.bytes,
        "data_sha256": first.data_sha256,
        "model_sha256": first.source_sha256,
        "versions": versions(first),
    }
    if path:
        write_json(path, result)
    return cast(dict[str, Any], plain(result))

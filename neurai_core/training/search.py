"""Searches: configurations are drawn by Optuna, several at a time, and trained together where they share a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neurai_core.data import Dataset
from neurai_core.report.comparison import is_share
from neurai_core.report.sweep import ranked
from neurai_core.training.json_files import plain
from neurai_core.training.lock import held
from neurai_core.training.record import versions
from neurai_core.training.searched import JOURNAL as FILE
from neurai_core.training.searched import Search
from neurai_core.training.seeds import Looks, SeedRun, Told
from neurai_core.training.settings import Chosen
from neurai_core.training.study import Study, Trial, check_optuna
from neurai_core.training.sweep_folder import JOURNAL, SWEEP, made, record, refuse_other, write
from neurai_core.training.sweep_programs import first_task, heading, score_of, seeds_of, train_program
from neurai_core.training.task import Task, named_data


def run_search(planned: Search, told: Told) -> dict[str, Any]:
    """The results of a search, without a folder."""
    check_optuna()
    data, first = _checked(planned)
    study = _study(planned, first, planned.storage)
    _train(planned, study, first, data, told)
    return _results(planned, study, first)[0]


def run_search_in(out: Path | None, planned: Search, told: Told) -> tuple[dict[str, Any], Path]:
    """Run a search, or continue it, and write its results into a folder.

    Several processes may do so at once; the folder is locked only while results are written.

    Args:
        out: the folder; None for ``sweeps/<time>-<rule>-<data>``.
        planned: the settings.
        told: functions to call on the way.

    Returns:
        The results, and the folder.

    Raises:
        MissingExtra: Optuna is not installed.
        OutputError: the folder or the study holds something else, or cannot be written; raised before training.
        UsageError: the rule cannot take the model or the data; raised before anything is written.
    """
    check_optuna()
    if out is not None:
        refuse_other(out, planned)
    data, first = _checked(planned)
    study = _study(planned, first, planned.storage) if planned.storage else None
    folder = made(out, planned)
    study = study or _study(planned, first, f"{FILE}{folder / JOURNAL}")
    told.begin(folder)
    _train(planned, study, first, data, told)
    with held(folder, wait=True):
        results, best = _results(planned, study, first)
        write(folder, results, best, planned.ends.seeds[0], data)
    return results, folder


def _checked(planned: Search) -> tuple[Dataset, Task]:
    """The data and the first task: the ends of all axes are checked as far as possible without training."""
    data = named_data(planned.ends.chosen[0])
    first, *_ = [first_task(planned.ends, program, data) for program in planned.ends.programs()]
    return data, first


def _study(planned: Search, first: Task, storage: str | None) -> Study:
    """The study, begun or joined: one of the same sweep on the same data."""
    settings = planned.ends.chosen[0].settings
    study = Study(
        storage,
        planned.study or f"{settings.rule}-{settings.data}",
        sampler=planned.sampler,
        seed=settings.seed,
        maximize=is_share(score_of(first)),
    )
    now = record(planned)
    now["settings"] |= {"data_sha256": first.data_sha256, "model_sha256": first.source_sha256}
    hint = "Choose another --study, or give the settings with which it was begun."
    SWEEP.refuse_difference(f"{study.where} is one", study.agreed(now), now, hint)
    return study


def _train(planned: Search, study: Study, first: Task, data: Dataset, told: Told) -> None:
    """Draw, train and tell until the study has all of its trials."""
    study.give_back_abandoned()
    while asked := study.ask(planned.axes, planned.together, planned.trials):
        left = {trial.number for trial in asked}
        try:
            _train_together(planned, study, asked, left, first, data, told)
        finally:
            for number in left:  # interrupted: another process, or the next one, draws others instead
                study.give_back(number)
    if others := study.others():
        told.note(f"The last trials are still trained by {' and '.join(others)}; --trials N draws more meanwhile.")


def _train_together(
    planned: Search, study: Study, asked: Sequence[Trial], left: set[int], first: Task, data: Dataset, told: Told
) -> None:
    """Train configurations, each program for all that share it, and tell what they gave."""
    score = score_of(first)
    drawn = planned.drawn(trial.texts for trial in asked)
    for program in drawn.programs():
        trials = [asked[at] for at in program.points]
        what = f"trial {', '.join(str(trial.number + 1) for trial in trials)}"
        looks = Looks(told=partial(_tell, told, what, first.epochs))
        trained = train_program(drawn, program, data, looks)
        for at, trial in enumerate(trials):
            seeds = plain(seeds_of(trained, at, len(drawn.seeds)))
            (point,) = ranked([{"seeds": seeds}], score)["points"]
            done = replace(trial, values=plain(drawn.points[program.points[at]]), seeds=seeds)
            study.tell(done, point["score"])
            left.discard(trial.number)


def _results(planned: Search, study: Study, first: Task) -> tuple[dict[str, Any], Chosen | None]:
    """What ``results.json`` holds, and the best configuration."""
    trials, score = study.finished(), score_of(first)
    points = [{"trial": trial.number, "values": trial.values, "seeds": trial.seeds} for trial in trials]
    results = {
        **heading(planned.ends, first),
        "search": planned.sampler,
        "axes": [
            {"name": axis.name, "values": list(axis.values), "scale": axis.scale, "drawn": asked.is_range}
            for axis, asked in zip(planned.ends.axes, planned.axes, strict=True)
        ],
        "versions": versions(first),
        **ranked(points, score),
    }
    best = results["best"]
    return results, None if best is None else planned.given.with_values(trials[best].texts)


def _tell(told: Told, what: str, epochs: int, epoch: int, runs: Sequence[SeedRun]) -> None:
    told.epoch(what, epoch, epochs, runs)

"""Comparisons: several rules from the same initial parameters on the same batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from neurai_core.data import Dataset
from neurai_core.errors import UsageError
from neurai_core.report.comparison import analysis, tables
from neurai_core.training.compared import Plan, plan
from neurai_core.training.comparison_folder import COMPARISON, REPORT, RESULTS, file_of, made, refuse_other
from neurai_core.training.inspection import cosines, phases
from neurai_core.training.json_files import write_json
from neurai_core.training.lock import held
from neurai_core.training.rule_results import result_of
from neurai_core.training.seeds import Looks, Told, train_seeds
from neurai_core.training.settings import Chosen
from neurai_core.training.step import begin
from neurai_core.training.task import Objects, Task, named_data, prepare


@dataclass(frozen=True, eq=False)
class Comparison:
    """The results of a comparison, from `compare`.

    Attributes:
        results: what ``results.json`` holds.
        folder: the folder with the report; None if it was made without one.

    Example:
        >>> Comparison({"scores": {"some-rule": {"mean": 0.5}}, "tests": []}, None).scores["some-rule"]["mean"]
        0.5
    """

    results: dict[str, Any]
    folder: Path | None

    @property
    def scores(self) -> dict[str, Any]:
        """Mean and interval of the final scores by rule, with the values by seed."""
        return cast(dict[str, Any], self.results["scores"])

    @property
    def tests(self) -> list[dict[str, Any]]:
        """The paired tests; ``pandas.DataFrame(comparison.tests)`` makes a table of them."""
        return cast(list[dict[str, Any]], self.results["tests"])

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=160, color_system=None)
        with console.capture() as captured:
            console.print(tables(self.results))
        return captured.get().rstrip()


def compare(
    rules: Sequence[str],
    *,
    data: str | None = None,
    model: str | None = None,
    seeds: int = 5,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
    **flags: Any,
) -> Comparison:
    """Compare learning rules, as ``neurai compare`` does.

    Args:
        rules: at least two names.
        data: name of a data set, as for ``--data``.
        model: the network, as for ``--model``.
        seeds: number of seeds.
        settings: by rule, its own settings and those of its run, such as ``{"some-rule": {"lr": 0.001}}``.
        out: folder for the report; one that holds a part of the same comparison is continued. None writes nothing.
        **flags: further settings of all runs, such as ``epochs=2`` or ``batch_size=32``.

    Raises:
        UsageError: the parts do not fit together, or the folder holds something else; found before training.

    Example:
        >>> import neurai_core as neurai
        >>> found = neurai.compare(["bp", "pc"], data="digits", model="mlp:8", epochs=1, seeds=2)
        >>> sorted(found.scores), [test["rules"] for test in found.tests]
        (['bp', 'pc'], [['bp', 'pc']])
    """
    given = {"data": data, "model": model, **flags}
    planned = plan(rules, given, seeds=seeds, settings=settings, environ={})
    if out is None:
        return Comparison(_results(planned, *_checked(planned), None, Told()), None)
    return run(planned, Path(out))


def run(planned: Plan, out: Path | None = None, told: Told | None = None) -> Comparison:
    """Run a planned comparison in a folder, or continue it there.

    Args:
        planned: the settings.
        out: the folder; None for ``comparisons/<time>-<data>``.
        told: functions to call on the way.

    Raises:
        OutputError: the folder holds something else, or cannot be written; raised before any rule is trained.
        UsageError: a rule cannot take the model or the data; raised before anything is written.
    """
    told = told or Told()
    if out is not None:
        refuse_other(out, planned)
    data, tasks = _checked(planned)
    folder = made(out, planned)
    with held(folder):
        told.begin(folder)
        results = _results(planned, data, tasks, folder, told)
        write_json(folder / RESULTS, results)

        from neurai_core.report.comparison_page import report  # matplotlib is slow to import

        report(results, folder, REPORT)
    return Comparison(results, folder)


def _checked(planned: Plan) -> tuple[Dataset, dict[str, Task]]:
    """The data, and the task of every rule with the first seed: everything checked that can be without training."""
    data, tasks = named_data(next(iter(planned.rules.values()))), {}
    for rule, chosen in planned.rules.items():
        try:
            tasks[rule] = _task(chosen, planned.seeds[0], data)
            begin(tasks[rule])
        except UsageError as error:
            error.message = f"{rule} cannot take part: {error.message}"
            raise
    return data, tasks


def _results(
    planned: Plan, data: Dataset, tasks: Mapping[str, Task], folder: Path | None, told: Told
) -> dict[str, Any]:
    """Train every rule that is not in the folder yet, and bring all results together."""
    found = {rule: _of_rule(rule, planned, task, data, folder, told) for rule, task in tasks.items()}
    first = next(iter(tasks.values()))
    score = _score(first)
    return {
        "data": first.data.name,
        "model": next(iter(planned.rules.values())).settings.model,
        "score": score,
        "seeds": list(planned.seeds),
        "epochs": first.epochs,
        "batch_size": first.batch_size,
        "steps": first.steps,
        **analysis(found, score),
        "rules": found,
    }


def _task(chosen: Chosen, seed: int, data: Dataset) -> Task:
    with_seed = replace(chosen, settings=chosen.settings.model_copy(update={"seed": seed}))
    return prepare(with_seed, Objects(data=data))


def _score(task: Task) -> str:
    """The metric by which rules are compared."""
    return "test_loss" if task.data.n_classes is None else "test_accuracy"


# ---------------------------------------------------------------------------- one rule


def _of_rule(rule: str, planned: Plan, first: Task, data: Dataset, folder: Path | None, told: Told) -> dict[str, Any]:
    """The results of a rule: from the folder, or from training it now."""
    path = None if folder is None else file_of(folder, rule)
    if path is not None and path.exists():
        told.kept(rule)
        return COMPARISON.read_result(path, "seeds", task=first, done=f"{rule} was trained", note=told.note)
    chosen = planned.rules[rule]
    tasks = [first, *(_task(chosen, seed, data) for seed in planned.seeds[1:])]
    looks = Looks(
        each_epoch=cosines(first),
        at_end=phases(first),
        told=lambda epoch, runs: told.epoch(rule, epoch, first.epochs, runs),
    )
    result = result_of(chosen, first, train_seeds(tasks, looks))
    if path is not None:
        write_json(path, result)
    return result

"""Comparisons: several rules from the same initial parameters on the same batches, in a folder that can be continued.

```
comparisons/<time>-<data>/
    comparison.json     the settings
    rules/<rule>.json   what training a rule gave; written when all of its seeds are done
    results.json        all of it, with intervals and tests
    report.html         the same, to read, with its pictures
    *.png               the pictures
```
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

import neurai_core as neurai
from neurai_core.arrays import PyTree
from neurai_core.data import Dataset
from neurai_core.errors import DataError, OutputError, UsageError
from neurai_core.naming import canonical
from neurai_core.products import Products, products
from neurai_core.report.comparison import analysis, tables
from neurai_core.report.relaxation import phases_of
from neurai_core.rising import ENERGY_CHANGE, rises, unwatched
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.compared import Plan, plan
from neurai_core.training.deciding import numerics
from neurai_core.training.folders import writing
from neurai_core.training.inspection import cosines, phases
from neurai_core.training.lock import LOCK, held
from neurai_core.training.networks import absolute
from neurai_core.training.record import versions
from neurai_core.training.seeds import Looks, SeedRun, Trained, train_seeds
from neurai_core.training.settings import Chosen, RunSettings
from neurai_core.training.step import begin
from neurai_core.training.task import Objects, Task, named_data, prepare

PLAN, RESULTS, RULES, REPORT = "comparison.json", "results.json", "rules", "report.html"
_OF_RUN = {*RunSettings.model_fields} - {"rule", "data", "seed", "loss", "stop_early", "align"}


@dataclass(frozen=True)
class Told:
    """Functions called during a comparison; each one is optional.

    Attributes:
        note: ``(sentence)``.
        begin: ``(folder)``: the settings are checked, training follows.
        epoch: ``(rule, epoch, epochs, runs)`` after every epoch, and before the first.
        kept: ``(rule)``: its results are already in the folder.
    """

    note: Callable[[str], None] = lambda sentence: None
    begin: Callable[[Path | None], None] = lambda folder: None
    epoch: Callable[[str, int, int, Sequence[SeedRun]], None] = lambda rule, epoch, epochs, runs: None
    kept: Callable[[str], None] = lambda rule: None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The results of a comparison, from `compare`.

    Attributes:
        results: what ``results.json`` holds.
        folder: the folder with the report; None if it was made without one.
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
        settings: settings by rule, such as ``{"pc": {"eta": 0.05, "lr": 0.001}}``.
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
        return Comparison(results_of(planned, None), None)
    return run(planned, Path(out))


def run(planned: Plan, out: Path | None = None, told: Told | None = None) -> Comparison:
    """Run a planned comparison in a folder, or continue it there.

    Args:
        planned: the settings.
        out: the folder; None for ``comparisons/<time>-<data>``.
        told: functions to call on the way.

    Raises:
        OutputError: the folder holds something else, or cannot be written; raised before anything is computed.
        UsageError: a rule cannot take the model or the data; raised before any rule is trained.
    """
    folder = _default_folder(planned) if out is None else opened(out, planned)
    with held(folder):
        results = results_of(planned, folder, told)
        write_json(folder / RESULTS, results)

        from neurai_core.report.comparison_page import report  # matplotlib is slow to import

        report(results, folder, REPORT)
    return Comparison(results, folder)


def results_of(planned: Plan, folder: Path | None, told: Told | None = None) -> dict[str, Any]:
    """Train every rule that is not in the folder yet, and bring all results together."""
    told = told or Told()
    data = named_data(next(iter(planned.rules.values())))
    tasks = _checked(planned, data)
    if folder is not None and not (folder / PLAN).exists():
        write_json(folder / PLAN, _record(planned))
    told.begin(folder)
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


def _checked(planned: Plan, data: Dataset) -> dict[str, Task]:
    """The task of every rule with the first seed, with everything checked that can be without training."""
    tasks = {}
    for rule, chosen in planned.rules.items():
        try:
            tasks[rule] = _task(chosen, planned.seeds[0], data)
            begin(tasks[rule])
        except UsageError as error:
            error.message = f"{rule} cannot take part: {error.message}"
            raise
    return tasks


def _task(chosen: Chosen, seed: int, data: Dataset) -> Task:
    with_seed = replace(chosen, settings=chosen.settings.model_copy(update={"seed": seed}))
    return prepare(with_seed, Objects(data=data))


def _score(task: Task) -> str:
    """The metric by which rules are compared."""
    return "test_loss" if task.data.n_classes is None else "test_accuracy"


# ---------------------------------------------------------------------------- one rule


def _of_rule(rule: str, planned: Plan, first: Task, data: Dataset, folder: Path | None, told: Told) -> dict[str, Any]:
    """The results of a rule: from the folder, or from training it now."""
    path = None if folder is None else folder / RULES / f"{canonical(rule)}.json"
    if path is not None and path.exists():
        told.kept(rule)
        return _kept(path, rule, first, told)
    chosen = planned.rules[rule]
    tasks = [first, *(_task(chosen, seed, data) for seed in planned.seeds[1:])]
    looks = Looks(
        each_epoch=cosines(first),
        at_end=phases(first),
        told=lambda epoch, runs: told.epoch(rule, epoch, first.epochs, runs),
    )
    result = _result(chosen, first, train_seeds(tasks, looks))
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        write_json(path, result)
    return result


def _kept(path: Path, rule: str, task: Task, told: Told) -> dict[str, Any]:
    """The results that the folder holds, which must be of the same data and model.

    Raises:
        OutputError: the file cannot be read.
        DataError: the data or the file of the model have changed.
    """
    result = cast(dict[str, Any], read_json(path))
    for what, now in (("data", task.data_sha256), ("model", task.source_sha256)):
        if result[f"{what}_sha256"] != now:
            raise DataError(
                f"The {what} of this comparison changed since {rule} was trained.",
                f"Bring the original back, or choose another --out than {path.parent.parent}.",
            )
    before, installed = result["versions"], versions(task)
    changed = [
        f"{name} was {one} and is {installed.get(name)}" for name, one in before.items() if installed.get(name) != one
    ]
    if changed:
        told.note(f"{rule} was trained in another environment: {', '.join(changed)}.")
    return result


def _result(chosen: Chosen, task: Task, trained: Trained) -> dict[str, Any]:
    """What is kept of a rule."""
    spec = cast(AlgorithmSpec, neurai.spec("algorithm", chosen.settings.rule))
    estimated, forward = _products(task)
    found = {
        "summary": spec.summary,
        "command": command(chosen, task),
        "settings": task.rule.origin.settings,
        "run": chosen.settings.model_dump(include=_OF_RUN, exclude_none=True),
        "loss": task.loss_name,
        "own_loss": task.own_loss,
        "no_alignment": spec.no_alignment,
        "parameters": task.n_params,
        "together": trained.together,
        "step_ms": _step_ms(trained.runs),
        "bytes": trained.bytes,
        "flops": estimated.flops,
        "flops_exact": estimated.exact,
        "forward_flops": forward.flops,
        "rising": any(map(_rose, trained.runs)),
        "seeds": [_seed(run) for run in trained.runs],
        "references": [{"title": one.title, "bibtex": one.bibtex} for one in spec.references],
        "data_sha256": task.data_sha256,
        "model_sha256": task.source_sha256,
        "versions": versions(task),
    }
    return cast(dict[str, Any], plain(found))


def _seed(run: SeedRun) -> dict[str, Any]:
    """What is kept of a seed."""
    energies = (
        {} if run.at_end is None else {name: phase["energy"] for name, phase in phases_of(run.at_end).items() if phase}
    )
    return {"seed": run.seed, "failed": run.failed, "rows": run.rows, "cosine": run.seen, "energy": energies}


def _products(task: Task) -> tuple[Products, Products]:
    """The matrix products of an estimate, and of a forward pass, for one batch."""
    x, y = task.problem.batch
    state = begin(task).state

    def estimate(params: PyTree, x: Any, y: Any) -> Any:
        with unwatched():
            return task.rule.estimate(task.model, params, state, (x, y), key=jax.random.key(0))

    forward = products(lambda params, x: task.rule.predict(task.model, params, x, state), task.params, x)
    return products(estimate, task.params, x, y), forward


def _step_ms(runs: Sequence[SeedRun]) -> float | None:
    """Mean wall time of a step of one seed, in milliseconds."""
    last = [run.rows[-1] for run in runs if run.rows and run.rows[-1]["step"]]
    return 1e3 * sum(row["seconds"] / row["step"] for row in last) / len(last) if last else None


def _rose(run: SeedRun) -> bool:
    """Whether the energy rose while relaxing, in the mean over an epoch."""
    change = f"aux/{ENERGY_CHANGE}"
    return any(bool(rises(row[change], row["train_loss"])) for row in run.rows if change in row)


def command(chosen: Chosen, task: Task) -> str:
    """The command that trains a rule alone, with its first seed."""
    settings, parts = chosen.settings, {name: dict(given) for name, given in chosen.parts.items()}
    path = parts["data"].pop("path", None)
    flags: dict[str, Any] = {
        "rule": settings.rule,
        "data": settings.data if path is None else f"{settings.data}:{path}",
    }
    flags |= {
        name: getattr(settings, name)
        for name in RunSettings.model_fields
        if name in _OF_RUN and getattr(settings, name) is not None
    }
    flags |= {"model": absolute(settings.model), "loss": task.loss_name, "seed": settings.seed}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    sets = [f"{part}.{key}={value}" for part, given in parts.items() for key, value in given.items()]
    return shlex.join(["neurai", "train", *words, *(word for one in sets for word in ("--set", one))])


# ---------------------------------------------------------------------------- the folder


def _default_folder(planned: Plan) -> Path:
    """Make a new folder; two comparisons that start in the same second get different ones."""
    data = next(iter(planned.rules.values())).settings.data
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{data}"
    for number in itertools.count(1):
        folder = Path("comparisons", name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError), writing(folder):
            folder.mkdir(parents=True)
            break
    return folder


def opened(folder: Path, planned: Plan) -> Path:
    """Make the folder, or check that it is empty or holds a part of the same comparison.

    Raises:
        OutputError: it holds something else, or cannot be written.
    """
    if os.path.isfile(folder / PLAN):  # unlike the methods of a path, accepts names that are too long
        _refuse_others(folder, read_json(folder / PLAN), _record(planned))
        return folder
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(path.name != LOCK for path in folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and it holds no comparison.", "Choose another --out.")
    return folder


def _record(planned: Plan) -> dict[str, Any]:
    """Everything that a folder must agree with."""
    return cast(dict[str, Any], plain({**planned.record(), "numerics": numerics()}))


def _refuse_others(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if the folder is of a comparison with other settings; names the first that differs."""
    hint = "Choose another --out, or give the settings with which it was begun."
    for what in ("rules", "seeds"):
        first, second = list(before[what]), list(now[what])
        if first != second:
            said, asked = (", ".join(map(str, one)) for one in (first, second))
            raise OutputError(f"{folder} holds a comparison with the {what} {said}, and asked for are {asked}.", hint)
    parts = [(f" of {rule}", before["rules"][rule], settings) for rule, settings in now["rules"].items()]
    for whose, was, asked in (*parts, ("", before["numerics"], now["numerics"])):
        for name in {**was, **asked}:
            if was.get(name) != asked.get(name):
                raise OutputError(
                    f"{folder} holds a comparison in which {name}{whose} is {was.get(name)}, and asked for is "
                    f"{asked.get(name)}.",
                    hint,
                )


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}")
    with writing(path.parent):
        beside.write_text(json.dumps(plain(value), allow_nan=False), encoding="utf-8")
        os.replace(beside, path)


def read_json(path: Path) -> Any:
    """Read a file of a comparison.

    Raises:
        OutputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: {error}.", "Remove it to train that part again.") from error


def plain(value: Any) -> Any:
    """A value as JSON holds it: numbers that are not finite are null, arrays are lists.

    >>> plain({"a": np.ones(2), "b": (math.nan, 1)})
    {'a': [1.0, 1.0], 'b': [None, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)

"""What a comparison keeps of one rule: its curves, what it costs, and how to train it alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, cast

import jax

import neurai_core as neurai
from neurai_core.arrays import PyTree
from neurai_core.products import Products, products
from neurai_core.report.relaxation import phases_of
from neurai_core.rising import ENERGY_CHANGE, rises, unwatched
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.deciding import as_trained
from neurai_core.training.json_files import plain
from neurai_core.training.networks import absolute
from neurai_core.training.record import versions
from neurai_core.training.seeds import SeedRun, TrainedSeeds
from neurai_core.training.settings import Chosen, RunSettings
from neurai_core.training.step import begin
from neurai_core.training.task import Task

_OF_RUN = {*RunSettings.model_fields} - {"rule", "data", "seed", "loss", "stop_early", "align", "log"}


def result_of(chosen: Chosen, task: Task, trained: TrainedSeeds) -> dict[str, Any]:
    """What is kept of a rule, as JSON holds it.

    Args:
        chosen: its settings.
        task: its task with the first seed.
        trained: what training gave.
    """
    spec = cast(AlgorithmSpec, neurai.spec("algorithm", chosen.settings.rule))
    estimated, forward = _products(task)
    found = {
        "summary": spec.summary,
        "command": command(chosen, task),
        "settings": task.rule.origin.settings,
        "run": _of_run(chosen, task),
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


def _of_run(chosen: Chosen, task: Task) -> dict[str, Any]:
    """The settings of the run that are not shown elsewhere."""
    return {name: one for name, one in as_trained(chosen, task).items() if name in _OF_RUN and one not in (None, ())}


def command(chosen: Chosen, task: Task) -> str:
    """The command that trains a rule alone, with its first seed."""
    settings, parts = chosen.settings, {name: dict(given) for name, given in chosen.parts.items()}
    path = parts["data"].pop("path", None)
    flags: dict[str, Any] = {
        "rule": settings.rule,
        "data": settings.data if path is None else f"{settings.data}:{path}",
    }
    flags |= _of_run(chosen, task)
    flags |= {"model": absolute(settings.model), "loss": task.loss_name, "seed": settings.seed}
    each = [(name, one) for name, given in flags.items() for one in (given if isinstance(given, tuple) else (given,))]
    words = [word for name, one in each for word in (f"--{name.replace('_', '-')}", str(one))]
    sets = [f"{part}.{key}={value}" for part, given in parts.items() for key, value in given.items()]
    return shlex.join(["neurai", "train", *words, *(word for one in sets for word in ("--set", one))])

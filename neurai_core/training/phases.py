"""What the phases of a relaxing rule do with the network that a run left, on the first batch of its data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import neurai_core as neurai
from neurai_core.errors import OutputError, UsageError
from neurai_core.training import checkpoint
from neurai_core.training.record import CONFIG
from neurai_core.training.run import PARAMS
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare


class Phases(NamedTuple):
    """The phases of one batch.

    Attributes:
        trace: ``aux["trace"]`` of the rule.
        tol: the rule's own measure of rest, 0 when it has none.
        title: rule, data and run.
    """

    trace: dict[str, Any]
    tol: float
    title: str


def phases_of_run(folder: Path, *, n_relax: int | None = None) -> Phases:
    """Relax the network of a run once more, and watch.

    Args:
        folder: the folder of a run.
        n_relax: steps of a phase in place of the run's own; None keeps them.

    Raises:
        OutputError: the folder holds no run, or one without parameters.
        UsageError: the rule of the run has no relaxation to watch.
    """
    if not (folder / CONFIG).is_file() or not (folder / PARAMS).is_file():
        raise OutputError(f"{folder} holds no run with parameters.", "Give the folder of a run, runs/<name>.")
    chosen = choose(file=folder / CONFIG, environ={})
    _check_traces(chosen.settings.rule)
    task = prepare(chosen)
    settings = chosen.parts["rule"] | {"trace": True} | ({} if n_relax is None else {"n_relax": n_relax})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that phases may not settle is what is looked at
        rule = neurai.algorithm(chosen.settings.rule, loss=task.loss_name, **settings)
    like = {"params": task.params, "model_state": task.model_state}
    left, _ = checkpoint.load(folder / PARAMS, like)
    state = rule.init(task.model, left["params"], key=jax.random.key(0), model_state=left["model_state"])
    batch = tuple(jnp.asarray(a[: task.batch_size]) for a in (task.data.x_train, task.data.y_train))
    estimate, _ = jax.jit(rule.estimate, static_argnums=0)(
        task.model, left["params"], state, batch, key=jax.random.key(task.seed)
    )
    title = f"{chosen.settings.rule} on {task.data.name}, {folder.name}"
    return Phases(estimate.aux["trace"], float(settings.get("tol", 0.0)), title)


def _check_traces(rule: str) -> None:
    if "trace" in neurai.spec("algorithm", rule).config.model_fields:
        return
    others = [n for n in neurai.names("algorithm") if "trace" in neurai.spec("algorithm", n).config.model_fields]
    raise UsageError(f"The rule {rule!r} has no relaxation to draw.", f"Rules that have: {', '.join(others)}.")

"""What the phases of a relaxing rule do with the network that a run left, on the first batch of its data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import neurai_core as neurai
from neurai_core.errors import UsageError
from neurai_core.training.run import finished


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
    task, kept = finished(folder)
    origin = task.rule.origin
    _check_traces(origin.name)
    settings = origin.settings | {"trace": True} | ({} if n_relax is None else {"n_relax": n_relax})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that phases may not settle is what is looked at
        rule = neurai.rebuild(origin, **settings)
    state = rule.init(task.model, kept.params, key=jax.random.key(0), model_state=kept.state)
    batch = tuple(jnp.asarray(a[: task.batch_size]) for a in (task.data.x_train, task.data.y_train))
    estimate, _ = jax.jit(rule.estimate, static_argnums=0)(
        task.model, kept.params, state, batch, key=jax.random.key(task.seed)
    )
    title = f"{origin.name} on {task.data.name}, {folder.name}"
    return Phases(estimate.aux["trace"], float(settings.get("tol", 0.0)), title)


def _check_traces(rule: str) -> None:
    if "trace" in neurai.spec("algorithm", rule).config.model_fields:
        return
    others = [n for n in neurai.names("algorithm") if "trace" in neurai.spec("algorithm", n).config.model_fields]
    raise UsageError(f"The rule {rule!r} has no relaxation to draw.", f"Rules that have: {', '.join(others)}.")

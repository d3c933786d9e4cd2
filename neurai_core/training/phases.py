"""Phases of a relaxing rule on the trained network of a run, for the first batch of its data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

import neurai_core as neurai
from neurai_core.errors import UsageError
from neurai_core.registry import REGISTRY
from neurai_core.rule import Rule, initial_state, model_state_of
from neurai_core.specs import AlgorithmSpec, Origin, Relaxes
from neurai_core.training.run import finished
from neurai_core.training.stream import example_of


class Phases(NamedTuple):
    """The phases of one batch.

    Attributes:
        trace: ``aux["trace"]`` of the rule.
        tol: the residual at which the run's phases end early; 0 if they never do.
        title: rule, data and run.
        relaxes: names of the rule's settings for steps and their size.
    """

    trace: dict[str, Any]
    tol: float
    title: str
    relaxes: Relaxes


def phases_of_run(folder: Path, *, steps: int | None = None, trust: bool = False) -> Phases:
    """Relax the network of a run once more and record a trace.

    Args:
        folder: the folder of a run.
        steps: steps per phase; None keeps the run's own.
        trust: run code that its configuration names even if the file of the code has changed.

    Raises:
        OutputError: the folder holds no run, or one without parameters.
        UsageError: the rule of the run has no relaxation to draw.
    """
    task, kept = finished(folder, trust=trust)
    origin = task.rule.origin
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no warnings here: the plot shows phases that do not settle or go uphill
        rule, relaxes, tol = tracing(origin, steps=steps)
        key = jax.random.key(0)
        state = initial_state(
            rule, task.model, kept.params, key=key, model_state=model_state_of(kept.state), problem=task.problem
        )
    batch = tuple(map(jnp.asarray, example_of(task.data, task.batch_size)))
    with neurai.unwatched():
        estimate, _ = jax.jit(rule.estimate, static_argnums=0)(
            task.model, kept.params, state, batch, key=jax.random.key(task.seed)
        )
    title = f"{origin.name} on {task.data.name}, {folder.name}"
    return Phases(estimate.aux["trace"], tol, title, relaxes)


def tracing(origin: Origin, *, steps: int | None = None) -> tuple[Rule, Relaxes, float]:
    """A rule built again so that it reports its phases, what names them, and the residual at which they end early.

    Args:
        origin: of the rule.
        steps: steps per phase; None keeps those of the rule.

    Raises:
        UsageError: the rule has no relaxation to draw.
    """
    relaxes = _watchable(origin)
    tol = float(origin.settings[relaxes.tol]) if relaxes.tol in origin.settings else 0.0
    changes = {relaxes.trace: True} | ({relaxes.tol: 0.0} if tol else {})
    changes |= {} if steps is None else {relaxes.steps: steps}
    return neurai.rebuild(origin, **changes), relaxes, tol


def _watchable(origin: Origin) -> Relaxes:
    """The settings for recording the rule's relaxation.

    Raises:
        UsageError: it has none, or not with these settings.
    """
    relaxes = _relaxes(origin.name)
    if relaxes is None:
        others = ", ".join(name for name in neurai.names("algorithm") if _relaxes(name))
        raise UsageError(f"The rule {origin.name!r} has no relaxation to draw.", f"Rules that have: {others}.")
    where = REGISTRY.settings("algorithm", origin.name, origin.settings).unused().get(relaxes.trace)
    if where is not None:
        raise UsageError(f"The rule {origin.name!r} has no relaxation to draw {where}.", "Train with another mode.")
    return relaxes


def _relaxes(rule: str) -> Relaxes | None:
    return cast(AlgorithmSpec, neurai.spec("algorithm", rule)).relaxes

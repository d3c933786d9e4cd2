r"""Incremental predictive coding on any network: activities and parameters descend on the energy in every sweep.

    (v, theta) <- (v - eta dF/dv, theta + optimizer(dF/dtheta)),   both derivatives at the same (v, theta)

As `incremental_inference` on chains, where the reasons are: activities are kept as they are, since predictions move
with the parameters, and the error of a prediction around which nothing has moved is set to the zero it is.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from neurai_algorithms.differences import like, subtract, widened
from neurai_algorithms.incremental_inference import optimizer_of
from neurai_algorithms.network_strict import feedforward_curvature
from neurai_algorithms.network_task import Errors, NetworkTask
from neurai_algorithms.pc_task import Found, root_mean_square
from neurai_algorithms.stable_step import limited_steps, step_scale
from neurai_core.arrays import PyTree, Scalar, tree_scale
from neurai_core.relaxation import relax


class Moving(NamedTuple):
    """What a sweep moves: activities, parameters, and the state of their optimizer."""

    activities: dict[str, jax.Array]
    params: PyTree
    carry: PyTree


def incremental_on_network(task: NetworkTask, carry: PyTree) -> tuple[Found, PyTree]:
    """n sweeps from the feed-forward pass.

    Returns:
        What was found, and the optimizer's state.
    """
    config, optimizer = task.config, optimizer_of(task.config)
    (outputs, model_state), predictions = task.network((task.params, task.model_state), task.x)
    start = {name: widened(found[0]) for name, found in predictions.items()}
    curvature = feedforward_curvature(task, outputs)
    step = limited_steps(config.eta, curvature)
    facts = {fact.name: fact.predictions for fact in task.network.facts((task.params, task.model_state), task.x)}

    def errors(activities: PyTree, params: PyTree) -> tuple[Errors, PyTree]:
        """Of every prediction, and the outputs."""
        given = {name: like(v, predictions[name][0]) for name, v in activities.items()}
        (top, _), said = task.network((params, task.model_state), task.x, given)
        moved = {name: jnp.any(activities[name] != start[name]) for name in start}
        learned = _learned(params, task.params)
        found = {
            name: tuple(
                jnp.where(
                    _any(moved[name], *(moved[k] for k in one.activities), *(learned[k] for k in one.parameters)), e, 0
                )
                if place == 0
                else e
                for place, (e, one) in enumerate(zip(_minus(said[name], activities[name]), facts[name], strict=True))
            )
            for name in start
        }
        return found, widened(top)

    def energy(activities: PyTree, params: PyTree) -> Scalar:
        found, top = errors(activities, params)
        return task.energy(top, found)

    def sweep(t: Any, now: Moving) -> Moving:
        uphill, grads = jax.grad(energy, (0, 1))(now.activities, now.params)
        updates, carry = optimizer.update(tree_scale(grads, 1 / task.scale), now.carry, now.params)
        moved = subtract(now.activities, tree_scale(uphill, step(t)))
        return Moving(moved, optax.apply_updates(now.params, updates), carry)

    sweep = jax.checkpoint(sweep) if config.remat else sweep
    never = isinstance(config.tol, int | float) and config.tol == 0
    top_error = jax.grad(task.scaled_loss)(widened(outputs))
    relaxed = relax(
        sweep,
        Moving(start, task.params, carry),
        config.n,
        tol=0.0 if never else config.tol * root_mean_square(top_error),
        observe=(lambda now: energy(now.activities, now.params)) if config.energy_trace else None,
        moving=lambda now: now.activities,
    )
    end = relaxed.state
    left, top = errors(end.activities, end.params)
    found = Found(
        grads=subtract(task.params, end.params),
        outputs=outputs,
        states=model_state,
        errors=(*(e for ones in left.values() for e in ones), jax.grad(task.scaled_loss)(top)),
        beliefs=end.activities,
        steps=relaxed.steps,
        energy=relaxed.trace if config.energy_trace else None,
        step_scale=step_scale(config.eta, config.n, curvature),
    )
    return found, end.carry


def _minus(predictions: tuple[jax.Array, ...], activity: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(widened(mu) - activity for mu in predictions)


def _any(*flags: Any) -> Any:
    return reduce(jnp.logical_or, flags)


def _learned(params: PyTree, before: PyTree) -> dict[str, Any]:
    """For every parameter, by its path, whether it has moved."""
    pairs = zip(jax.tree_util.tree_flatten_with_path(params)[0], jax.tree.leaves(before), strict=True)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "params": jnp.any(one != old)
        for (path, one), old in pairs
    }

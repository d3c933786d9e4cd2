r"""Predictive coding in error coordinates: the energy of strict, well conditioned at any depth.

    v_k = mu_k(v) + e_k ,   F = loss(mu_out) + 1/2 sum_k |e_k|^2 + 1/2 sum_k sum_{i>0} |mu_ki - v_k|^2
    e <- e - eta dF/de ,    e starts at 0

A change of one error reaches the output at once, so a sweep is one back-propagation and depth costs no sweeps. At the
minimum ``e_k = -d loss/d v_k``, the same activities and gradients as those of strict predictive coding.

Goemaere et al. 2025, arXiv:2505.20137.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import widened
from neurai_algorithms.network_strict import mover
from neurai_algorithms.network_task import Errors, NetworkTask
from neurai_algorithms.pc_task import Found, root_mean_square
from neurai_algorithms.stable_step import curvature_of, looked_at, step_scale
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.relaxation import relax

Coordinates = dict[str, jax.Array]


def error_coordinates(task: NetworkTask) -> Found:
    """Relax errors, then learn: the gradients of strict predictive coding at its equilibrium."""
    config = task.config
    start = {name: jnp.zeros(shape, task.dtypes[name]) for name, shape in task.network.shapes.items()}
    (outputs, model_state), _, _ = task.displaced(start)
    curvature = _curvature(task, outputs)
    begin, move = mover(task, curvature)

    def sweep(t: Any, state: tuple[Coordinates, PyTree]) -> tuple[Coordinates, PyTree]:
        errors, carry = state
        return move(t, errors, jax.grad(partial(_energy, task))(errors), carry)

    sweep = jax.checkpoint(sweep) if config.remat else sweep
    energy = partial(_energy, task)
    tol: Any = 0.0
    if not (isinstance(config.tol, int | float) and config.tol == 0):
        tol = config.tol * root_mean_square(jax.grad(task.scaled_loss)(widened(outputs)))
    relaxed = relax(
        sweep,
        (start, begin(start)),
        config.n,
        tol=tol,
        observe=(lambda state: energy(state[0])) if config.energy_trace else None,
        moving=lambda state: state[0],
    )
    errors, _ = relaxed.state
    (said, _), predictions, activities = task.displaced(errors)
    top_error = jax.grad(task.scaled_loss)(widened(said))
    found = _prediction_errors(errors, predictions, activities)
    return Found(
        grads=task.gradients(activities, found, top_error),
        outputs=outputs,
        states=model_state,
        errors=(*(e for ones in found.values() for e in ones), top_error),
        beliefs=activities,
        steps=relaxed.steps,
        energy=relaxed.trace if config.energy_trace else None,
        energy_change=energy(errors) - energy(start),
        step_scale=step_scale(config.eta, config.n, curvature),
    )


def _energy(task: NetworkTask, errors: Coordinates) -> Scalar:
    (outputs, _), predictions, activities = task.displaced(errors)
    return task.energy(widened(outputs), _prediction_errors(errors, predictions, activities))


def _prediction_errors(errors: Coordinates, predictions: Any, activities: Any) -> Errors:
    """Prediction minus activity: minus the coordinate for the first, what it is for those that follow."""
    return {
        name: (-errors[name], *(widened(mu) - widened(activities[name]) for mu in found[1:]))
        for name, found in predictions.items()
    }


def _curvature(task: NetworkTask, outputs: PyTree) -> Scalar | None:
    """Of the energy at the feed-forward pass of a few examples; None where nobody asks."""
    if not task.config.stable or task.config.corrector is not None:
        return None
    rows = looked_at(batch_size(task.x))
    few = task.few(rows, widened(outputs))
    shapes = few.network.shapes_at((few.params, few.model_state), few.x)
    start = {name: jnp.zeros(shape, few.dtypes[name]) for name, shape in shapes.items()}
    return curvature_of(jax.grad(partial(_energy, few)), start, rows)

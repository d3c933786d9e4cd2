r"""Predictive coding in error coordinates: the energy of mode strict, well conditioned at any depth.

    v_k = mu_k(v) + e_k ,   F = loss(mu_out) + 1/2 sum_k |e_k|^2 + 1/2 sum_k sum_{i>0} |mu_ki - v_k|^2
    e <- e - eta dF/de ,    e starts at 0

A change of an error reaches the output at once, so a sweep is one back-propagation and depth costs no extra sweeps. At
the minimum ``e_k = -d loss/d v_k``, with the same activities and gradients as strict predictive coding.

Goemaere et al. 2025, arXiv:2505.20137.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from neurai_algorithms.differences import widened
from neurai_algorithms.predictive_coding.network_moves import mover
from neurai_algorithms.predictive_coding.network_task import Errors, NetworkTask, errors_of
from neurai_algorithms.predictive_coding.task import Solution
from neurai_algorithms.stable_step import step_scale
from neurai_core.arrays import PyTree, Scalar

Coordinates = dict[str, jax.Array]


def error_coordinates(task: NetworkTask) -> Solution:
    """Relax errors, then learn: the gradients of strict predictive coding at its equilibrium."""
    config, energy, start = task.config, partial(_energy, task), task.at_rest()
    (outputs, model_state), _, _ = task.displaced(start)
    curvature = task.curvature(outputs, lambda few: (partial(_energy, few), few.at_rest()))
    begin, move = mover(config, curvature)

    def sweep(t: Any, state: tuple[Coordinates, PyTree]) -> tuple[tuple[Coordinates, PyTree], Coordinates]:
        errors, carry = state
        uphill = jax.grad(energy)(errors)
        return move(t, errors, uphill, carry), uphill

    look = jax.value_and_grad(energy)
    (errors, _), steps, trace = task.relaxed(sweep, (start, begin(start)), config.n, lambda state: look(state[0]))
    (said, _), predictions, activities = task.displaced(errors)
    top_error = jax.grad(task.scaled_loss)(widened(said))
    found = _prediction_errors(errors, predictions, activities)
    end = task.energy(widened(said), found)
    return Solution(
        grads=task.gradients(activities, found, top_error),
        outputs=outputs,
        states=model_state,
        errors=task.listed(found, top_error),
        activities=activities,
        steps=steps,
        energy=end,
        energy_change=end - energy(start),
        step_scale=step_scale(config.eta, config.n, curvature),
        trace=trace,
    )


def _energy(task: NetworkTask, errors: Coordinates) -> Scalar:
    (outputs, _), predictions, activities = task.displaced(errors)
    return task.energy(widened(outputs), _prediction_errors(errors, predictions, activities))


def _prediction_errors(errors: Coordinates, predictions: Any, activities: Any) -> Errors:
    """Prediction minus activity: minus the coordinate for the first prediction, computed for later ones."""
    plain = errors_of(predictions, activities)
    return {name: (-errors[name], *found[1:]) for name, found in plain.items()}

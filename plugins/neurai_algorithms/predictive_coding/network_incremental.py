r"""Incremental predictive coding on any network: activities and parameters descend on the energy in every sweep.

    (v, theta) <- (v - eta dF/dv, theta + optimizer(dF/dtheta)),   both derivatives at the same (v, theta)

As `incremental` does on chains, for the reasons given there: the state is the activities themselves, since predictions
move with the parameters, and the error of a prediction around which nothing has moved is set to exact zero.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import like, widened
from neurai_algorithms.predictive_coding.incremental import Moving, differ, masked, together
from neurai_algorithms.predictive_coding.network_strict import feedforward_curvature
from neurai_algorithms.predictive_coding.network_task import NetworkTask, errors_of
from neurai_algorithms.predictive_coding.task import Solution
from neurai_core.arrays import PyTree
from neurai_core.sources import parameter_paths


def incremental_on_network(task: NetworkTask, carry: PyTree) -> tuple[Solution, PyTree]:
    """Run n sweeps from the feed-forward pass.

    Returns:
        The result, and the optimizer's state.
    """
    arguments = (task.params, task.model_state), task.x
    (outputs, model_state), predictions = task.network(*arguments)
    start = {name: widened(found[0]) for name, found in predictions.items()}
    first = {fact.name: fact.predictions[0] for fact in task.network.facts(*arguments)}

    def errors(activities: PyTree, params: PyTree) -> tuple[list[PyTree], PyTree]:
        given = {name: like(v, predictions[name][0]) for name, v in activities.items()}
        (top, _), said = task.network((params, task.model_state), task.x, given)
        moved = {name: differ(activities[name], start[name]) for name in start}
        learned = _learned(params, task.params)  # separate, because an activity may have the name of a parameter
        found = errors_of(said, activities)
        for name, (error, *more) in found.items():
            around = [moved[one] for one in (name, *first[name].activities)]
            around += [learned[one] for one in first[name].parameters]
            found[name] = (masked(error, reduce(jnp.logical_or, around)), *more)
        *hidden, top = task.listed(found, widened(top))
        return hidden, top

    curvature = feedforward_curvature(task, outputs)
    return together(task, errors, Moving(start, task.params, carry), curvature, outputs, model_state)


def _learned(params: PyTree, before: PyTree) -> dict[str, Any]:
    """For every parameter, by its path, whether it has moved."""
    trios = zip(parameter_paths(params), jax.tree.leaves(params), jax.tree.leaves(before), strict=True)
    return {path: differ(one, old) for path, one, old in trios}

r"""Incremental predictive coding: activities and parameters descend on the energy together, in every sweep.

    (v, theta) <- (v - eta dF/dv, theta + optimizer(dF/dtheta)),   both derivatives at the same (v, theta)

A corrector, such as one with momentum, moves the activities instead of eta.

Salvatori et al. 2024, arXiv:2212.00720. The optimizer is an optax one, and the rule carries its state from sweep
to sweep and from batch to batch. The rule does not change the caller's parameters; it returns their total change as
gradients, theta before the batch minus theta after its last sweep. So an outer ``optax.sgd(1.0)`` makes exactly the
incremental step, and any other optimizer treats the change as a gradient.

Predictions move with the parameters, so there is no fixed feed-forward point to measure distances from: the state is
the activities themselves. Where nothing around a layer has moved since the feed-forward pass, its error is set to exact
zero: an optimizer that divides by the size of gradients, such as Adam, would turn rounding errors into steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from neurai_algorithms.differences import like, subtract, widened
from neurai_algorithms.predictive_coding.network_moves import mover
from neurai_algorithms.predictive_coding.network_task import NetworkTask
from neurai_algorithms.predictive_coding.strict import feedforward_curvature
from neurai_algorithms.predictive_coding.task import Solution, Task, half_square
from neurai_algorithms.stable_step import Curvature, step_scale
from neurai_core.arrays import PyTree, Scalar
from neurai_core.optax_texts import made


class Moving(NamedTuple):
    """State of a sweep: v_1..v_{L-1}, parameters, the state of their optimizer, and that of a corrector."""

    activities: PyTree
    params: PyTree
    carry: PyTree
    corrected: PyTree = ()


def optimizer_of(config: Any) -> Any:
    """The optimizer of the parameter step."""
    return made(config.optimizer) if isinstance(config.optimizer, str) else config.optimizer


def incremental(task: Task, carry: PyTree) -> tuple[Solution, PyTree]:
    """Run n sweeps from the feed-forward pass.

    Returns:
        The result, and the optimizer's state.
    """
    predictions, states = task.feedforward()
    functions = [task.layer_function(l) for l in range(len(task.model))]
    start = tuple(map(widened, predictions[:-1]))

    def errors(activities: tuple[PyTree, ...], params: PyTree) -> tuple[list[PyTree], PyTree]:
        inputs = (task.x, *(like(v, p) for v, p in zip(activities, predictions, strict=False)))
        *hidden, top = (f(p, v)[0] for f, p, v in zip(functions, params, inputs, strict=True))
        plain = (subtract(widened(f), v) for f, v in zip(hidden, activities, strict=True))
        moved = _moved_around(activities, start, params, task.params)
        return [masked(e, here) for e, here in zip(plain, moved, strict=True)], widened(top)

    curvature = feedforward_curvature(task, predictions[0], predictions[-1])
    return together(task, errors, Moving(start, task.params, carry), curvature, predictions[-1], states)


def together(
    task: Task | NetworkTask,
    errors: Callable[[PyTree, PyTree], tuple[list[PyTree], PyTree]],
    start: Moving,
    curvature: Curvature | Scalar | None,
    outputs: PyTree,
    states: PyTree,
) -> tuple[Solution, PyTree]:
    """Let activities and parameters descend together.

    Args:
        task: the batch.
        errors: ``(activities, params) -> (hidden errors, prediction of the outputs)``.
        start: where to begin.
        curvature: limits the step of the activities, or of each; None for no limit.
        outputs: of the feed-forward pass.
        states: the collections after it.

    Returns:
        The result, and the optimizer's state.
    """
    config, optimizer = task.config, optimizer_of(task.config)
    begin, move = mover(config, curvature)

    def energy_of(hidden: list[PyTree], top: PyTree) -> Scalar:
        return task.scaled_loss(top) + sum(half_square(e) for e in hidden)

    def energy(activities: PyTree, params: PyTree) -> Scalar:
        return energy_of(*errors(activities, params))

    def sweep(t: Any, now: Moving) -> tuple[Moving, PyTree]:
        uphill, grads = jax.grad(energy, (0, 1))(now.activities, now.params)
        updates, carry = optimizer.update(task.unscaled(grads), now.carry, now.params)
        moved, corrected = move(t, now.activities, uphill, now.corrected)
        return Moving(moved, optax.apply_updates(now.params, updates), carry, corrected), uphill

    def look(now: Moving) -> tuple[Scalar, PyTree]:
        return jax.value_and_grad(energy)(now.activities, now.params)

    begun = start._replace(corrected=begin(start.activities))
    end, steps, trace = task.relaxed(sweep, begun, config.n, look)
    hidden, top = errors(end.activities, end.params)
    found = Solution(
        grads=subtract(start.params, end.params),
        outputs=outputs,
        states=states,
        errors=(*hidden, jax.grad(task.scaled_loss)(top)),
        activities=end.activities,
        steps=steps,
        energy=energy_of(hidden, top),
        step_scale=step_scale(config.eta, config.n, curvature),
        trace=trace,
    )
    return found, end.carry


def _moved_around(
    activities: tuple[PyTree, ...], start: tuple[PyTree, ...], params: PyTree, before: PyTree
) -> list[Any]:
    """For every hidden layer, whether its activity, the one below it or its parameters have moved."""
    moved = [differ(v, v0) for v, v0 in zip(activities, start, strict=True)]
    learned = [differ(own, own0) for own, own0 in zip(params, before, strict=True)]
    below = [False, *moved]
    return [here | lower | own for here, lower, own in zip(moved, below, learned, strict=False)]


def differ(a: PyTree, b: PyTree) -> Any:
    """Whether any number of two trees differs."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return reduce(jnp.logical_or, (jnp.any(one != other) for one, other in pairs), jnp.asarray(False))


def masked(tree: PyTree, here: Any) -> PyTree:
    """A tree, zero unless ``here``."""
    return jax.tree.map(lambda leaf: jnp.where(here, leaf, 0), tree)

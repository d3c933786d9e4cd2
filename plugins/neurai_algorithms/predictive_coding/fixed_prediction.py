r"""Predictive coding with fixed predictions, in closed form, and its limit, the errors of back-propagation.

With predictions held at the feed-forward pass, n sweeps of eps_l <- (1 - eta) eps_l + eta J_{l+1}^T eps_{l+1}
multiply the back-propagated error of a layer at distance d from the output by one number that depends
only on eta and n:

    eps_l = c_d delta_l,   c_d = P[Binomial(n - 1, eta) >= d],   d = L - l

(induct on d: all layers share the coefficients, and J^T delta_{l+1} = delta_l). So a relaxation of any length
costs one back-propagation. The recursion is that of Rosenbaum 2022, doi:10.1371/journal.pone.0266102.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurai_algorithms.differences import state_dtype, subtract
from neurai_algorithms.predictive_coding.task import Solution, Task
from neurai_core.arrays import PyTree, tree_scale

Pull = Callable[[PyTree], PyTree]


def exact(task: Task) -> Solution:
    """The errors and gradients of back-propagation: one forward and one backward pass."""
    forward = _forward_pass(task)
    errors = _back_propagated(task, forward)
    grads = tuple(pull(e) for pull, e in zip(forward.learn, errors, strict=True))
    moved = tuple(_moved(v, e, 1.0) for v, e in zip(forward.activities, errors[:-1], strict=False))
    return Solution(grads, forward.activities[-1], forward.states, errors, moved, 0)


def fixed_prediction(task: Task) -> Solution:
    """Gradients and errors after n sweeps, from one back-propagation and L numbers."""
    config, forward = task.config, _forward_pass(task)
    depth = len(forward.activities)
    full = _back_propagated(task, forward)
    last = coefficients(config.eta, config.n if config.fresh else config.n - 1, depth)[::-1]
    after = coefficients(config.eta, config.n, depth)[::-1]
    errors = tuple(tree_scale(e, c) for e, c in zip(full, last, strict=True))
    grads = tuple(pull(e) for pull, e in zip(forward.learn, errors, strict=True))
    moved = tuple(_moved(v, e, c) for v, e, c in zip(forward.activities, full[:-1], after, strict=False))
    return Solution(grads, forward.activities[-1], forward.states, errors, moved, config.n)


class ForwardPass(NamedTuple):
    """A feed-forward pass, layer by layer.

    Attributes:
        activities: vhat_1..vhat_L.
        states: the collections of every layer after it.
        learn: for every layer, error -> gradient of its parameters.
        descend: for layers 2..L, error -> error of the layer below.
    """

    activities: tuple[PyTree, ...]
    states: tuple[PyTree, ...]
    learn: tuple[Pull, ...]
    descend: tuple[Pull, ...]


def _forward_pass(task: Task) -> ForwardPass:
    first, learn, state = jax.vjp(lambda params: task.layer_function(0)(params, task.x), task.params[0], has_aux=True)
    activities, states, pulls = [first], [state], []
    for index, params in enumerate(task.params[1:], 1):
        above, pull, state = jax.vjp(task.layer_function(index), params, activities[-1], has_aux=True)
        activities.append(above)
        states.append(state)
        pulls.append(pull)
    first_learns = [lambda e: learn(e)[0]]
    learners = [lambda e, pull=pull: pull(e)[0] for pull in pulls]
    descents = [lambda e, pull=pull: pull(e)[1] for pull in pulls]
    return ForwardPass(tuple(activities), tuple(states), (*first_learns, *learners), tuple(descents))


def _back_propagated(task: Task, forward: ForwardPass) -> tuple[PyTree, ...]:
    """delta_1..delta_L, the derivatives of the loss with respect to the activities."""
    errors = [jax.grad(lambda outputs: task.score.loss(outputs, task.y)[0])(forward.activities[-1])]
    for descend in reversed(forward.descend):
        errors.append(descend(errors[-1]))
    return tuple(reversed(errors))


def _moved(activity: PyTree, error: PyTree, c: Any) -> PyTree:
    """v = vhat - c delta."""
    return subtract(activity, tree_scale(error, c))


def coefficients(eta: Any, updates: int, depth: int) -> Any:
    """c_0..c_{depth-1} after a number of updates, by their recursion c_d <- (1 - eta) c_d + eta c_{d-1}.

    Args:
        eta: a number, a traced scalar, or a schedule: sweep -> step.
        updates: updates of the errors; n - 1 for the errors of n sweeps.
        depth: number of layers.

    Returns:
        An array ``(depth,)``: NumPy's float64 for a Python number, otherwise one of JAX.

    Example:
        >>> coefficients(0.1, 19, 4).round(3).tolist()
        [1.0, 0.865, 0.58, 0.295]
    """
    if isinstance(eta, int | float):
        c = np.eye(1, depth)[0]
        for _ in range(updates):
            c[1:] += eta * (c[:-1] - c[1:])
        return c
    dtype = state_dtype(jnp.result_type(eta(0) if callable(eta) else eta))

    def update(t: Any, c: jax.Array) -> jax.Array:
        step = jnp.asarray(eta(t) if callable(eta) else eta, dtype)
        return c.at[1:].add(step * (c[:-1] - c[1:]))

    return jax.lax.fori_loop(0, updates, update, jnp.zeros(depth, dtype).at[0].set(1))


def updates_needed(eta: float, distance: int, share: float, most: int = 100_000) -> int | None:
    """Smallest number of updates after which c_distance is at least ``share``; None if ``most`` are not enough.

    >>> updates_needed(0.1, 3, 0.99)
    81
    """
    c = np.eye(1, distance + 1)[0]
    for count in range(1, most + 1):
        c[1:] += eta * (c[:-1] - c[1:])
        if c[-1] >= share:
            return count
    return None

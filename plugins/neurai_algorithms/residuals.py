"""The residual of activities, and relaxations that end once it is below ``tol``.

The residual is the norm of the force on an example's activity, mean over the batch and summed over activities. In every
rule, traces report it and ``tol`` is compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar
from neurai_core.relaxation import never, relax, repeated


def residual_of(forces: PyTree) -> Scalar:
    """Sum over activities of `mean_norm`.

    >>> float(residual_of((jnp.ones((2, 1)), jnp.ones((2, 1)))))
    2.0
    """
    norms = [mean_norm(force) for force in jax.tree.leaves(forces)]
    return jnp.sum(jnp.stack(norms)) if norms else jnp.zeros(())


def mean_norm(force: jax.Array, batch: int = 0) -> Scalar:
    """Euclidean norm of every example's force, mean over the batch.

    Args:
        force: on one activity.
        batch: number of the batch axis. Axes before it are iterations of loops, over which norms are summed; with
            -1 all other axes belong to the example.

    >>> float(mean_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    2.5
    """
    squares = jnp.square(force.real) + (jnp.square(force.imag) if jnp.iscomplexobj(force) else 0)
    of_example = range(force.ndim - 1) if batch == -1 else range(batch + 1, force.ndim)
    return jnp.sum(jnp.mean(jnp.sqrt(jnp.sum(squares, of_example)), batch))


def settle(
    step: Callable[[Scalar, PyTree], tuple[PyTree, PyTree]],
    residual: Callable[[PyTree], Scalar],
    state: PyTree,
    n: int,
    tol: Any,
    every: int = 1,
) -> tuple[PyTree, Scalar, Scalar]:
    """Take up to n steps, until the residual is below ``tol``.

    Args:
        step: ``(number of the step, state) -> (state, forces that moved it)``.
        residual: of forces.
        state: where to start.
        n: greatest number of steps.
        tol: residual to stop at; the Python number 0 disables the check.
        every: check every this many steps, and at the last one.

    Returns:
        The state, the number of steps taken, and the residual at the last check, before a step.
    """
    if never(tol):
        # The last step is separate: a loop that carried its forces would write them at every step.
        state = relax(lambda t, state: step(t, state)[0], state, n - 1).state
        state, forces = step(jnp.asarray(n - 1), state)
        return state, jnp.asarray(n), residual(forces)

    def again(t: Scalar, state: PyTree, last: Scalar) -> tuple[Scalar, PyTree, Scalar]:
        state, forces = step(t, state)
        look = (t == n - 1) | ((t + 1) % every == 0)
        return t + 1, state, jax.lax.cond(look, residual, lambda forces: last, forces)

    kind = jax.eval_shape(lambda state: residual(step(jnp.asarray(0), state)[1]), state).dtype
    steps, state, last = repeated(again, state, jnp.asarray(jnp.inf, kind), n, tol)
    return state, steps, last


def appended(trace: PyTree, last: PyTree) -> PyTree:
    """A trace with one more entry."""
    return jax.tree.map(jnp.append, trace, last)

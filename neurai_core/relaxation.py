"""Relaxation: move activities downhill for n steps, or until they hardly move. Shared by all energy-based rules.

There is one compiled loop for any n: memory does not grow with the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar


class Relaxed(NamedTuple):
    """The result of a relaxation.

    Attributes:
        state: the activities (and anything else that the step carries).
        steps: number of steps taken, an int32 scalar.
        change: root mean square change per element at the last check; nan if there was none.
        trace: values of ``observe`` before every step and at the end, stacked ``(n + 1, ...)``; ``()`` without it.
    """

    state: PyTree
    steps: Scalar
    change: Scalar
    trace: PyTree = ()


def relax(
    step: Callable[[Scalar, PyTree], PyTree],
    state: PyTree,
    n: int,
    *,
    tol: Any = 0.0,
    every: int = 1,
    observe: Callable[[PyTree], PyTree] | None = None,
    moving: Callable[[PyTree], PyTree] = lambda state: state,
) -> Relaxed:
    """Apply ``step`` up to n times.

    ``tol`` is compared with the root mean square change per element of one step, which depends neither on the batch
    size nor on the width.

    Args:
        step: ``(t, state) -> state`` with t the number of the step, from 0.
        state: where to start.
        n: greatest number of steps.
        tol: stop once the change per element is below this; 0 (a Python number) disables the check.
        every: number of steps between checks; the steps taken are a multiple of it, or n.
        observe: ``state -> anything``; its values are stacked. Disables early stopping (``tol`` must be 0).
        moving: picks the part of the state whose change is measured, the activities.

    Returns:
        A `Relaxed`.

    Example:
        >>> import jax.numpy as jnp
        >>> halved = relax(lambda t, u: u - 0.5 * u, jnp.ones(4), 100, tol=1e-3)
        >>> int(halved.steps), float(halved.state[0]) < 1e-3
        (10, True)
    """
    unknown = jnp.asarray(jnp.nan, _change_dtype(moving(state)))
    if observe is not None:
        if not never(tol):
            raise ValueError("relax: a trace has a fixed length, so observe needs tol=0")
        state, trace = jax.lax.scan(lambda u, t: (step(t, u), observe(u)), state, jnp.arange(n))
        last = jax.tree.map(lambda leaf: leaf[None], observe(state))
        trace = jax.tree.map(lambda *parts: jnp.concatenate(parts), trace, last)
        return Relaxed(state, jnp.asarray(n), unknown, trace)
    if never(tol):
        return Relaxed(jax.lax.fori_loop(0, n, step, state), jnp.asarray(n), unknown)

    def stride(t: Scalar, before: PyTree, _: Scalar) -> tuple[Scalar, PyTree, Scalar]:
        last = jnp.minimum(t + every, n) - 1
        before = jax.lax.fori_loop(t, last, step, before)
        after = step(last, before)  # on its own, so that the change of a single step is measured
        return last + 1, after, change_per_element(moving(before), moving(after))

    steps, state, change = repeated(stride, state, unknown, n, tol)
    return Relaxed(state, steps, change)


def repeated(
    turn: Callable[[Scalar, PyTree, Scalar], tuple[Scalar, PyTree, Scalar]],
    state: PyTree,
    measure: Any,
    n: int,
    tol: Any,
) -> tuple[Scalar, PyTree, Scalar]:
    """Repeat up to n steps, until a measure of what still moves is below ``tol``.

    Args:
        turn: ``(steps taken, state, measure) -> (steps taken, state, measure)``.
        state: where to start.
        measure: what is known of it at the start: nan or infinity if nothing is.
        n: greatest number of steps.
        tol: measure to stop at.

    Returns:
        The number of steps taken, the state, and the last measure.

    >>> taken, _, last = repeated(lambda t, u, _: (t + 1, u / 2, u / 2), jnp.ones(()), jnp.nan, 100, 0.1)
    >>> int(taken), float(last)
    (4, 0.0625)
    """

    def going_on(carry: tuple[Scalar, PyTree, Scalar]) -> Scalar:
        t, _, last = carry
        return (t < n) & ~(last < tol)  # not last >= tol: nan goes on

    found: tuple[Scalar, PyTree, Scalar] = jax.lax.while_loop(
        going_on, lambda carry: turn(*carry), (jnp.asarray(0), state, measure)
    )
    return found


def never(tol: Any) -> bool:
    """Whether only the number of steps ends a relaxation; False for a traced ``tol``.

    >>> never(0.0), never(0.1)
    (True, False)
    """
    return isinstance(tol, int | float) and tol == 0


def _change_dtype(activities: PyTree) -> Any:
    return jax.eval_shape(change_per_element, activities, activities).dtype


def change_per_element(before: PyTree, after: PyTree) -> Scalar:
    """Root mean square difference over all elements of two trees.

    >>> float(change_per_element([jnp.zeros(2)], [jnp.full(2, 3.0)]))
    3.0
    """
    differences = [jnp.abs(a - b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)]
    total = sum(jnp.sum(jnp.square(d)) for d in differences)
    return jnp.sqrt(total / max(1, sum(d.size for d in differences)))

"""Choices between values: maxima, absolute values, comparisons and selections, exact across their kinks.

Which of two values is larger after a change follows from their distance and its change, (a - b) + (u - v), which is
accurate however small the change, even if a and b are close. A choice that stays the same passes the change of the
chosen value; one that flips gives the difference of two different values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import apart, distance, moved, plus, wide
from neurai_core.changes.rule import Changes, Rule, Values, bind, derivative_of, exact, plain
from neurai_core.programs import Equation

COMPARISONS = frozenset(["eq", "ne", "lt", "le", "gt", "ge"])


@partial(jax.jit, inline=True)
def _larger(gap: Any, u: Any, v: Any) -> Any:
    """max(a + u, b + v) - max(a, b) from gap = a - b."""
    chosen_before, chosen = gap >= 0, gap + (u - v) >= 0
    return jnp.where(chosen, jnp.where(chosen_before, u, gap + u), jnp.where(chosen_before, v - gap, v))


_larger_of_two = exact(
    derivative_of(lambda a, b: [lax.max(a, b)]), lambda values, _, changes: [_larger(values[0], *changes)]
)


def larger(gap: Any, u: Any, v: Any) -> Any:
    """The change of a maximum of two, whose derivative is that of a maximum: half and half where both are equal."""
    zero = jnp.zeros_like(gap)
    u, v = (zero if one is None else jnp.broadcast_to(one, gap.shape) for one in (u, v))
    # A maximum moves with both of its values, so the second value may be taken to be 0.
    return _larger_of_two((gap, zero), (), (u, v))[0]


def _minus(change: Any) -> Any:
    return None if change is None else -change


def maximum(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The larger of two."""
    return Partial(lambda gap, changes: [larger(gap, *changes)], distance(*values))


def minimum(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The smaller of two: minus the larger of their opposites."""
    return Partial(lambda gap, changes: [-larger(-gap, *map(_minus, changes))], distance(*values))


def clamp(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """x clipped to a lower and an upper bound."""
    low, x, high = values

    def change(gaps: Any, changes: Changes) -> list[Any]:
        u_low, u, u_high = changes
        raised = larger(gaps[0], u, u_low)
        return [-larger(-gaps[1], -raised, _minus(u_high))]

    return Partial(change, (distance(x, low), distance(jnp.maximum(x, low), high)))


def absolute(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """u or -u, and across zero |u| - 2 |a|."""

    def change(values: Values, _: Any, changes: Changes) -> list[Any]:
        (a,), (u,) = values, changes
        was, now = a >= 0, a + u >= 0
        return [jnp.where(was == now, jnp.where(was, u, -u), jnp.abs(u) - 2 * jnp.abs(a))]

    return Partial(exact(derivative_of(partial(bind, equation)), change), (wide(values[0]),), ())


def compare(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """Whether a comparison flips, from the distance of both and its change; infinities are compared directly."""
    if not all(jnp.issubdtype(value.dtype, jnp.floating) for value in values):
        return plain(equation, values, results, moving)

    def change(values: Values, gap: Any, result: Any, changes: Changes) -> list[Any]:
        after = gap + ((0 if changes[0] is None else changes[0]) - (0 if changes[1] is None else changes[1]))
        near = bind(equation, after, jnp.zeros_like(after))[0]
        far = bind(equation, *map(moved, map(wide, values), changes))[0]
        return [apart(jnp.where(jnp.isfinite(gap), near, far), result)]

    return Partial(change, tuple(values), wide(values[0]) - wide(values[1]), results[0])


def select(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The change of the chosen value; where the choice flips, plus its distance to the former one."""
    which, *cases = values

    def among(which: Any, changes: Changes) -> Any:
        aval = equation.results[0].aval
        zero = jnp.zeros(aval.shape, next(change.dtype for change in changes if change is not None))
        return bind(equation, which, *(zero if change is None else change for change in changes))[0]

    def held(which: Any, changes: Changes) -> list[Any]:
        return [among(which, changes[1:])]

    def flipping(which: Any, cases: Values, result: Any, changes: Changes) -> list[Any]:
        now = moved(which, changes[0])
        jump = apart(bind(equation, now, *cases)[0], result)
        jump = jnp.where(now == which, jnp.zeros_like(jump), jump)
        if all(change is None for change in changes[1:]):
            return [jump]
        return [plus(among(now, changes[1:]), jump)]

    if moving[0]:
        return Partial(flipping, which, tuple(cases), results[0])
    return Partial(held, which)


CHOICES: dict[str, Rule] = {
    "max": maximum,
    "min": minimum,
    "clamp": clamp,
    "abs": absolute,
    "select_n": select,
    **dict.fromkeys(COMPARISONS, compare),
}

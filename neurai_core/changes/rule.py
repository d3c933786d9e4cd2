"""Rules for the change of one operation, the plain rule, and how to define derivatives of changes.

A rule is called once at the point, ``rule(equation, values, results, moving)``, computes what depends on the point
alone, and returns a function from changes of the operands to changes of the results. That function is a
`jax.tree_util.Partial`, a pytree of the arrays it keeps, so that a loop can return it for all iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import Partial

from neurai_core.arrays import PyTree
from neurai_core.changes.arithmetic import apart, as_dtype, moved, plus
from neurai_core.programs import Equation

Values: TypeAlias = Sequence[Any]
Changes: TypeAlias = Sequence[Any]
Exact: TypeAlias = Callable[[Values, PyTree, Changes], list[Any]]
Derivative: TypeAlias = Callable[[Values, Values], list[Any]]
Rule: TypeAlias = Callable[[Equation, Values, Values, Sequence[bool]], Partial]


def bind(equation: Equation, *operands: Any, **settings: Any) -> list[Any]:
    """The operation itself on operands of any float type, some of its settings changed."""
    results = equation.primitive.bind(*operands, **{**equation.eqn.params, **settings})
    return list(results) if equation.primitive.multiple_results else [results]


def plain(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """f(a + u) - f(a), computed directly: the fallback where nothing better is known."""

    def change(values: Values, results: Values, changes: Changes) -> list[Any]:
        return list(map(apart, equation(*map(moved, values, changes)), results))

    return Partial(change, tuple(values), tuple(results))


def exact(derivative: Derivative, change: Exact) -> Exact:
    """A change whose derivative is that of the function at the moved point, however the change is computed.

    Args:
        derivative: derivative of the function; see `derivative_of`.
        change: ``(values, kept, changes) -> changes of the results``; ``kept`` depends on the values alone.
    """

    @jax.custom_jvp
    def at_point(values: Values, kept: PyTree, changes: Changes) -> list[Any]:
        return change(values, kept, changes)

    @partial(at_point.defjvp, symbolic_zeros=True)
    def along(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
        values, kept, changes = primals
        of_values, of_changes = _known(tangents[0]), _known(tangents[2])
        out = at_point(values, kept, changes)
        there = derivative(list(map(moved, values, changes)), list(map(plus, of_values, of_changes)))
        here = derivative(values, of_values)
        return out, [_difference(t, h, o) for t, h, o in zip(there, here, out, strict=True)]

    return at_point


def derivative_of(function: Callable[..., list[Any]]) -> Derivative:
    """The derivative of a function, custom ones included: ``(values, tangents) -> tangents``, None for zero."""

    def derivative(values: Values, tangents: Values) -> list[Any]:
        places = [place for place, tangent in enumerate(tangents) if tangent is not None]
        if not places:
            return [None] * len(jax.eval_shape(function, *values))

        def of_some(*some: Any) -> list[Any]:
            given = dict(zip(places, some, strict=True))
            return function(*(given.get(place, value) for place, value in enumerate(values)))

        primals = tuple(values[place] for place in places)
        steps = tuple(as_dtype(tangents[place], values[place].dtype) for place in places)
        return jax.jvp(of_some, primals, steps)[1]  # type: ignore[no-any-return]

    return derivative


def _known(tangents: Sequence[Any]) -> list[Any]:
    """Tangents, None for those that are zero by structure."""
    return [None if isinstance(t, SymbolicZero) else t for t in tangents]


def _difference(there: Any, here: Any, out: Any) -> Any:
    """The derivative at the moved point minus that at the point, for a change."""
    if there is None:
        return jnp.zeros_like(out)
    if there.dtype == jax.dtypes.float0:  # of integers
        return there
    there = as_dtype(there, out.dtype)
    return there if here is None else there - as_dtype(here, out.dtype)

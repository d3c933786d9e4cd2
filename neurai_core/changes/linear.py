"""Operations that are linear in what moves: the operation itself acts on the change.

Some only rearrange entries, of any type; the others sum them. Operands that do not move, an index for example, are
unchanged; where one moves, the plain difference is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import apart, as_dtype, change_dtype, filled, moved
from neurai_core.changes.rule import Changes, Rule, Values, bind, plain
from neurai_core.programs import Equation

ALL = slice(None)


def linear(places: slice, **settings: Any) -> Rule:
    """The rule of an operation that is jointly linear in the operands at some places.

    Args:
        places: the operands it is linear in.
        **settings: settings of the operation that differ between changes and values.
    """

    def rule(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
        inside = range(len(values))[places]
        if any(is_moving for place, is_moving in enumerate(moving) if place not in inside):
            return plain(equation, values, results, moving)
        held = tuple(None if place in inside else value for place, value in enumerate(values))
        known = {name: value for name, value in settings.items() if name in equation.eqn.params}

        def change(held: Values, changes: Changes) -> list[Any]:
            operands = [
                filled(changes[place], operand.aval) if place in inside else held[place]
                for place, operand in enumerate(equation.operands)
            ]
            return bind(equation, *operands, **known)

        return Partial(change, held)

    return rule


def add(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """u + v."""
    return Partial(lambda changes: [_sum(equation, *changes)])


def subtract(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """u - v."""
    return Partial(lambda changes: [_sum(equation, changes[0], None if changes[1] is None else -changes[1])])


def _sum(equation: Equation, u: Any, v: Any) -> Any:
    total = v if u is None else u if v is None else u + v
    return jnp.broadcast_to(total, equation.results[0].aval.shape)


def same(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """u, although the value is rounded."""
    return Partial(lambda changes: [changes[0]])


def convert(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The change in the new dtype, from float to float; other types give the plain difference."""
    dtype = equation.results[0].aval.dtype
    if all(jnp.issubdtype(one, jnp.inexact) for one in (values[0].dtype, dtype)):
        return Partial(lambda changes: [as_dtype(changes[0], change_dtype(dtype))])
    return Partial(_converted, values[0], results[0])


def _converted(value: Any, result: Any, changes: Changes) -> list[Any]:
    return [apart(as_dtype(moved(value, changes[0]), result.dtype), result)]


ARRANGE: dict[str, Rule] = {
    **dict.fromkeys(
        ["reshape", "broadcast_in_dim", "transpose", "squeeze", "slice", "rev", "copy", "tile", "split", "unstack"],
        linear(ALL),
    ),
    **dict.fromkeys(["stack", "concatenate", "pad", "stop_gradient"], linear(ALL)),
    **dict.fromkeys(["sharding_constraint", "layout_constraint", "device_put", "optimization_barrier"], linear(ALL)),
    "gather": linear(slice(1), fill_value=0),
    "dynamic_slice": linear(slice(1)),
    "dynamic_update_slice": linear(slice(2)),
    "scatter": linear(slice(0, 3, 2)),
    "convert_element_type": convert,
}
SUM: dict[str, Rule] = {
    "add": add,
    "add_any": add,
    "sub": subtract,
    "reduce_precision": same,
    **dict.fromkeys(["neg", "reduce_sum", "cumsum", "reduce_window_sum", "fft"], linear(ALL)),
    **dict.fromkeys(["real", "imag", "conj", "complex"], linear(ALL)),
    **dict.fromkeys(["scatter-add", "scatter-sub"], linear(slice(0, 3, 2))),
    "select_and_scatter_add": linear(slice(1)),
    "select_and_gather_add": linear(slice(1)),
    "triangular_solve": linear(slice(1, 2)),
}

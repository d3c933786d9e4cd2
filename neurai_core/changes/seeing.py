"""Evaluate a program once for its values, then propagate changes through it.

`see` evaluates the equations and asks the rule of each one that may change which values it needs. The result
propagates changes: it is a function of changes alone, and a pytree of the arrays that it keeps. A value that no change
reaches has the change None, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core as jex
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import filled
from neurai_core.changes.dependence import NONE, dependence
from neurai_core.changes.expansion import Predictions, Seen, join
from neurai_core.changes.loops import see_loop
from neurai_core.changes.products import MATRIX
from neurai_core.changes.resting import carried
from neurai_core.changes.rule import Changes, Values, derivative_of, exact
from neurai_core.changes.table import rule_of
from neurai_core.errors import ModelError
from neurai_core.programs import CUSTOM, Equation, Operand, Program, Value

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


def see(
    program: Program,
    arguments: Values,
    moving: Sequence[bool],
    at: Mapping[str, Any] = _NOTHING,
    known: Mapping[Value, Any] = _NOTHING,
) -> Seen:
    """Evaluate a program, and keep for every equation what its change needs.

    Args:
        program: the program.
        arguments: one value for each input.
        moving: for each input whether it may change.
        at: values of names that occurred before; their next occurrence is another prediction.
        known: values of the program that need not be computed again.
    """
    # Inputs that may change count as one more name: only whether a value depends on any name matters here.
    may_move = dependence(program, [frozenset(["an input"]) if moves else NONE for moves in moving]).moving
    values = {**program.constants, **dict(zip(program.inputs, arguments, strict=True)), **known}
    at, predictions = dict(at), Predictions()
    equations, kept = [], []
    for equation in program.equations:
        operands = [_value(operand, values) for operand in equation.operands]
        moves = [isinstance(operand, Value) and operand in may_move for operand in equation.operands]
        if _is_still(equation, moves):
            results = _computed(equation, operands, known)
        else:
            seen = _see_equation(equation, operands, moves, at, known)
            results, at = seen.outputs, {**at, **seen.at}
            join(predictions, seen.predictions)
            equations.append(equation)
            kept.append(seen.carry)
        values.update(zip(equation.results, results, strict=True))
    outputs = [_value(output, values) for output in program.outputs]
    return Seen(outputs, at, predictions, Partial(_Carrier(program, tuple(equations)), tuple(kept)))


def _value(operand: Operand, values: Mapping[Value, Any]) -> Any:
    if isinstance(operand, jex.Literal):
        aval: Any = operand.aval
        return np.asarray(operand.val, aval.dtype)
    return values[operand]


def _is_still(equation: Equation, moves: Sequence[bool]) -> bool:
    """Whether nothing in an equation can change."""
    is_free = equation.name is not None or equation.holds_names
    return not is_free and not (any(moves) and equation.results)


def _computed(equation: Equation, operands: Values, known: Mapping[Value, Any]) -> Sequence[Any]:
    results = [known.get(result) for result in equation.results]
    return equation(*operands) if any(result is None for result in results) or not results else results


def _see_equation(
    equation: Equation, operands: Values, moves: Sequence[bool], at: Mapping[str, Any], known: Mapping[Value, Any]
) -> Seen:
    name, body = equation.name, equation.body
    if name is not None:
        return Seen([at.get(name, operands[0])], {name: at.get(name, operands[0])}, {name: (operands[0],)}, _NAMED)
    if body is None and equation.holds_names:
        raise ModelError(
            f"Values inside {equation.primitive.name!r} have names, and what it runs depends on the data.",
            "Name values outside of it, or use jax.lax.scan, which runs all its iterations.",
        )
    if body is None:
        results = _computed(equation, operands, known)
        return Seen(results, {}, {}, rule_of(equation)(equation, operands, results, moves))
    if equation.loop is not None:
        return see_loop(equation, body, operands, moves, at, see)
    if equation.primitive in CUSTOM and not equation.holds_names:
        return _see_custom(equation, body, operands, moves)
    return _see_call(equation, operands, moves, at)


_NAMED = Partial(tuple)  # keeps nothing: `_carried` takes the change of a named value from the given ones


def _see_call(equation: Equation, operands: Values, moves: Sequence[bool], at: Mapping[str, Any]) -> Seen:
    """A call that only evaluates its body."""

    def inside(body: Program, operands: Values, _: Any) -> tuple[list[Any], Seen]:
        seen = see(body, operands, moves, at)
        return list(seen.outputs), seen

    outputs, seen = equation.descend(operands, (), inside)
    return seen._replace(outputs=outputs)


def _see_custom(equation: Equation, body: Program, operands: Values, moves: Sequence[bool]) -> Seen:
    """A function with a custom derivative: changes follow its body, their derivative the custom one."""
    inside = see(body, operands, moves)

    def change(values: Values, carry: Partial, changes: Changes) -> list[Any]:
        results, _ = carry(changes, {})
        return [filled(one, result.aval) for one, result in zip(results, equation.results, strict=True)]

    return inside._replace(carry=Partial(exact(derivative_of(equation), change), tuple(operands), inside.carry))


class _Carrier(NamedTuple):
    """Propagation of changes through a program: the static part of `Seen.carry`, without arrays."""

    program: Program
    equations: tuple[Equation, ...]

    def __call__(self, kept: Sequence[Any], changes: Changes, named: Mapping[str, Any]) -> tuple[Changes, Predictions]:
        found = dict(zip(self.program.inputs, changes, strict=True))
        predictions = Predictions()

        def of(operand: Operand) -> Any:
            return None if isinstance(operand, jex.Literal) else found.get(operand)

        for equation, rule in zip(self.equations, kept, strict=True):
            operands = [of(operand) for operand in equation.operands]
            results, inside = _carried(equation, rule, operands, named)
            join(predictions, inside)
            found.update(zip(equation.results, results, strict=True))
        return [of(output) for output in self.program.outputs], predictions


def _carried(
    equation: Equation, rule: Partial, changes: Changes, named: Mapping[str, Any]
) -> tuple[Sequence[Any], Predictions]:
    if equation.name is not None:
        return [named.get(equation.name)], {equation.name: (changes[0],)}
    is_custom = equation.primitive in CUSTOM and not equation.holds_names
    if equation.body is not None and not is_custom:
        return rule(changes, named)  # type: ignore[no-any-return]
    if all(change is None for change in changes):
        return [None] * len(equation.results), {}
    return carried(rule, changes, costly=is_custom or equation.primitive.name in MATRIX), {}

"""Dependence of a program's values on names, direct only: not through another name."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from neurai_core.changes.choices import COMPARISONS
from neurai_core.programs import Equation, Operand, Program, Value

Names: TypeAlias = frozenset[str]
NONE: Names = frozenset()


class Dependence(NamedTuple):
    """The dependence of values on names.

    Attributes:
        outputs: for each output of the program, the names it depends on.
        predictions: for each name, the names on which each of its predictions depends.
        moving: the values that depend on any name.
        work: the number of equations that depend on any name, including nested ones.
    """

    outputs: tuple[Names, ...]
    predictions: Mapping[str, tuple[Names, ...]]
    moving: Container[Value]
    work: int


class Everything:
    """All names."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING = Everything()


def dependence(program: Program, inputs: Sequence[Names], free: Container[str] = EVERYTHING) -> Dependence:
    """Follow dependence through a program.

    Args:
        program: the program.
        inputs: what each of its inputs depends on.
        free: the names that may move; a value with another name depends on nothing.
    """
    found: dict[Value, Names] = dict(zip(program.inputs, inputs, strict=True))
    predictions: dict[str, tuple[Names, ...]] = {}
    work = 0

    def of(operand: Operand) -> Names:
        return found.get(operand, NONE) if isinstance(operand, Value) else NONE

    for equation in program.equations:
        inside = _through(equation, [of(operand) for operand in equation.operands], free)
        for name, ones in inside.predictions.items():
            predictions[name] = predictions.get(name, ()) + ones
        found.update(zip(equation.results, inside.outputs, strict=True))
        work += inside.work
    moving = {value for value, names in found.items() if names}
    return Dependence(tuple(map(of, program.outputs)), predictions, moving, work)


def _through(equation: Equation, operands: list[Names], free: Container[str]) -> Dependence:
    """The names on which the results of an equation, and predictions inside it, depend."""
    name, body = equation.name, equation.body
    if name is not None:
        return Dependence((frozenset([name]) if name in free else NONE,), {name: (operands[0],)}, (), 0)
    if body is not None:
        return _around(equation, body, operands, free) if equation.loop else dependence(body, operands, free)
    union = NONE if _tests_for_nan(equation) else NONE.union(*operands)
    return Dependence((union,) * len(equation.results), {}, (), int(bool(union)))


def _tests_for_nan(equation: Equation) -> bool:
    return equation.primitive.name in COMPARISONS and equation.operands[0] is equation.operands[1]


def _around(equation: Equation, body: Program, operands: list[Names], free: Container[str]) -> Dependence:
    """Go around a loop until nothing is added."""
    constants, carry, _ = equation.loop  # type: ignore[misc]
    state = operands[constants : constants + carry]
    while True:
        inside = dependence(body, [*operands[:constants], *state, *operands[constants + carry :]], free)
        grown = [a | b for a, b in zip(state, inside.outputs[:carry], strict=True)]
        if grown == state:
            return inside._replace(outputs=(*state, *inside.outputs[carry:]))
        state = grown


def moving_state(
    equation: Equation, body: Program, moving: Sequence[bool], free: Container[str] = EVERYTHING
) -> list[bool]:
    """The parts of a loop's state that may change, given its changing operands and free names."""
    operands = [frozenset(["an operand"]) if is_moving else NONE for is_moving in moving]
    results = _around(equation, body, operands, free).outputs
    return [bool(names) for names in results[: equation.loop.carry]]  # type: ignore[union-attr]


def names_inside(program: Program) -> dict[str, int]:
    """The names in a program, in order of computation, and how often each occurs."""
    predictions = dependence(program, [NONE] * len(program.inputs)).predictions
    return {name: len(ones) for name, ones in predictions.items()}

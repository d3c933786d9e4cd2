"""Whether parameters alone bound the slopes of a network, as they do those of dense layers and activations.

Normalization and attention have no such bound: their slopes depend on where the activities are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neurai_core.arrays import PyTree
from neurai_core.network import Network
from neurai_core.programs import Equation, Operand, Program, Value, read_program
from neurai_core.sources import Labels, argument_labels, sources_of

STEEP = frozenset(["cbrt", "cosh", "exp", "exp2", "log", "pow", "rsqrt", "sinh", "sqrt", "tan"])
PRODUCTS = frozenset(["conv_general_dilated", "dot_general"])


def slopes_are_bounded(network: Network, params: PyTree, model_state: PyTree, x: PyTree) -> bool:
    """Whether every operation on activities has a bounded slope.

    Divisions by activities, products of two of them (matrix products and convolutions) and roots, powers and
    exponentials count as steep. Elementwise products do not, because most are gates such as that of gelu.

    Args:
        network: its function is traced, not computed.
        params: parameters.
        model_state: collections.
        x: inputs.
    """
    program = read_program(network.function, params, model_state, x)
    labels = sources_of(program, argument_labels(params, model_state, x)).values
    return not any(_is_steep(equation, labels) for equation in _equations(program))


def _equations(program: Program) -> Iterator[Equation]:
    for equation in program.equations:
        yield equation
        if equation.body is not None:
            yield from _equations(equation.body)


def _is_steep(equation: Equation, labels: Mapping[Value, Labels]) -> bool:
    moving = [_moves(operand, labels) for operand in equation.operands]
    name = equation.primitive.name
    if name == "div":
        return moving[1]
    return (name in STEEP and any(moving)) or (name in PRODUCTS and all(moving))


def _moves(operand: Operand, labels: Mapping[Value, Labels]) -> bool:
    """Whether an activity is among the inputs: the labels of activities are their names."""
    return isinstance(operand, Value) and any(isinstance(label, str) for label in labels.get(operand, ()))

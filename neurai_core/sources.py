"""Sources of values: the inputs and named values from which each value of a program is computed directly."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax

from neurai_core.arrays import PyTree
from neurai_core.programs import Equation, Operand, Program, Value

Labels: TypeAlias = frozenset[Hashable]
NOTHING: Labels = frozenset()


class Parameter(NamedTuple):
    """The label of a parameter.

    Attributes:
        position: position among the leaves of all parameters.
        path: path in their tree, such as ``layers.0.weight``; ``params`` if it is the whole tree.
    """

    position: int
    path: str


class Other(NamedTuple):
    """The label of an input that is not a parameter.

    Attributes:
        what: description of the input.
    """

    what: str


INPUT, COLLECTION = Other("the input"), Other("a collection of the model")


def argument_labels(params: PyTree, model_state: PyTree, x: PyTree) -> list[Labels]:
    """The labels of all leaves of a model's arguments.

    >>> argument_labels({"w": 1.0}, (), 2.0)
    [frozenset({Parameter(position=0, path='w')}), frozenset({Other(what='the input')})]
    """
    own = [Parameter(position, path) for position, path in enumerate(parameter_paths(params))]
    others = [*[COLLECTION] * len(jax.tree.leaves(model_state)), *[INPUT] * len(jax.tree.leaves(x))]
    return [frozenset([label]) for label in (*own, *others)]


def parameter_paths(params: PyTree) -> list[str]:
    """The path of every leaf in a tree of parameters, such as ``layers.0.weight``; ``params`` for a lone leaf.

    >>> parameter_paths([{"w": 1.0}, 2.0]), parameter_paths(1.0)
    (['0.w', '1'], ['params'])
    """
    paths = (path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0])
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "params" for path in paths]


def parameters_among(labels: Labels) -> tuple[str, ...]:
    """The paths of the parameters among some labels, in the order of their leaves."""
    return tuple(one.path for one in sorted(one for one in labels if isinstance(one, Parameter)))


class Sources(NamedTuple):
    """Labels of the values of a program.

    Attributes:
        values: the labels of every value, including those inside loops and calls.
        names: the labels of the prediction of every named value, in order of computation.
        outputs: the labels of every output.
    """

    values: Mapping[Value, Labels]
    names: Sequence[Labels]
    outputs: Sequence[Labels]


def sources_of(program: Program, inputs: Sequence[Labels]) -> Sources:
    """Label every value with the inputs and names from which it is computed directly.

    Args:
        program: the program.
        inputs: labels of each input. A named value has its name as its only label.

    Example:
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> from neurai_core.programs import read_program
        >>> program = read_program(lambda w, x: checkpoint_name(w[0] * x, "h") * w[1], [1.0, 2.0], 3.0)
        >>> found = sources_of(program, [frozenset({"w0"}), frozenset({"w1"}), frozenset({"x"})])
        >>> [sorted(one) for one in found.names], [sorted(one) for one in found.outputs]
        ([['w0', 'x']], [['h', 'w1']])
    """
    values: dict[Value, Labels] = {}
    names: list[Labels] = []
    outputs = _label(program, inputs, values, names)
    return Sources(values, names, outputs)


def _label(
    program: Program, inputs: Sequence[Labels], values: dict[Value, Labels], names: list[Labels]
) -> list[Labels]:
    values.update(zip(program.inputs, inputs, strict=True))
    for equation in program.equations:
        operands = [_labels(operand, values) for operand in equation.operands]
        if equation.name is not None:
            names.append(operands[0])
        values.update(zip(equation.results, _results(equation, operands, values, names), strict=True))
    return [_labels(output, values) for output in program.outputs]


def _labels(operand: Operand, values: Mapping[Value, Labels]) -> Labels:
    return values.get(operand, NOTHING) if isinstance(operand, Value) else NOTHING


def _results(
    equation: Equation, operands: list[Labels], values: dict[Value, Labels], names: list[Labels]
) -> list[Labels]:
    if equation.name is not None:
        return [frozenset({equation.name})]
    if equation.body is None:
        return [NOTHING.union(*operands)] * len(equation.results)
    if equation.loop is None:
        return _label(equation.body, operands, values, names)
    first, last = equation.loop.constants, equation.loop.constants + equation.loop.carry
    while True:  # until the carry of the loop has all the labels it acquires
        inside: list[Labels] = []
        results = _label(equation.body, operands, values, inside)
        carried = [a | b for a, b in zip(operands[first:last], results, strict=False)]
        if carried == operands[first:last]:
            names += inside
            return results
        operands = [*operands[:first], *carried, *operands[last:]]

"""Named values of programs: their places, checks, and evaluation with some of them given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.program_convolutions import computed
from neurai_core.programs import CUSTOM, Equation, Evaluate, Operand, Program, Value, read_program
from neurai_core.sources import Labels

RESHAPING = frozenset({"squeeze", "expand_dims", "reshape", "broadcast_in_dim"})


class Named(NamedTuple):
    """One place where a program names a value.

    Attributes:
        name: the name.
        shape: shape of the value, with the axes of the loops around it in front.
        dtype: dtype of the value.
        loops: number of loops around it.
    """

    name: str
    shape: Shape
    dtype: Any
    loops: int


def named_values(program: Program, turns: Shape = ()) -> Iterator[Named]:
    """Every place where a program names a value, in order of computation.

    Args:
        program: the program.
        turns: lengths of the loops around it.

    Raises:
        ModelError: a value is named where it cannot be replaced.

    Example:
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> from neurai_core.programs import read_program
        >>> def twice(x):
        ...     return jax.lax.scan(lambda c, _: (checkpoint_name(2 * c, "h"), None), x, length=2)
        >>> [(one.name, one.shape, one.loops) for one in named_values(read_program(twice, jnp.ones(3)))]
        [('h', (2, 3), 1)]
    """
    for equation in program.equations:
        if equation.name is not None:
            aval = equation.results[0].aval
            yield Named(equation.name, (*turns, *aval.shape), aval.dtype, len(turns))
        elif equation.holds_names:
            if equation.body is None:
                raise _out_of_reach(equation)
            yield from named_values(equation.body, (*turns, *((equation.loop.length,) if equation.loop else ())))


def evaluate(program: Program, arguments: Sequence[Any], given: Mapping[str, Any]) -> tuple[list[Any], list[jax.Array]]:
    """Evaluate a program with some of its named values given.

    Names are kept, so that rematerialization by names still works. A custom derivative with names inside is used as
    long as none of them is given.

    Args:
        program: the program.
        arguments: leaves of its arguments.
        given: replacements for values, by name, with the axes of loops in front.

    Returns:
        ``(outputs, predictions)``: what the program computes for the named values, in the order of `named_values`.

    Example:
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> from neurai_core.programs import read_program
        >>> program = read_program(lambda x: checkpoint_name(2 * x, "h") + 1, 1.0)
        >>> (output,), (prediction,) = evaluate(program, [1.0], {"h": 5.0})
        >>> float(output), float(prediction)
        (6.0, 2.0)
    """
    predictions: list[jax.Array] = []

    def step(equation: Equation, operands: list[Any]) -> Sequence[Any]:
        if equation.name is not None:
            predictions.append(operands[0])
            value = given.get(equation.name, operands[0])
            # The equation names the value again, for rematerialization policies that save it by name.
            return equation(jnp.asarray(value, equation.results[0].aval.dtype))
        if not equation.holds_names:
            return computed(equation, operands)
        results, found = _inside(equation, operands, given)
        predictions.extend(found)
        return results

    return program.run(arguments, step), predictions


def displace(
    program: Program, arguments: Sequence[Any], errors: Mapping[str, Any]
) -> tuple[list[Any], tuple[list[jax.Array], list[jax.Array]]]:
    """Evaluate a program whose named values are its predictions plus given errors, ``v = f(...) + e``.

    A name that occurs again keeps its first value.

    Args:
        program: the program.
        arguments: leaves of its arguments.
        errors: by name, with the axes of loops in front.

    Returns:
        ``(outputs, (predictions, values))`` for the named values, in the order of `named_values`.

    Example:
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> from neurai_core.programs import read_program
        >>> program = read_program(lambda x: checkpoint_name(2 * x, "h") + 1, 1.0)
        >>> (output,), ((prediction,), (value,)) = displace(program, [1.0], {"h": 0.5})
        >>> float(output), float(prediction), float(value)
        (3.5, 2.0, 2.5)
    """
    at: dict[str, jax.Array] = {}
    predictions: list[jax.Array] = []
    values: list[jax.Array] = []

    def step(equation: Equation, operands: list[Any]) -> Sequence[Any]:
        if equation.name is not None:
            name, (prediction,) = equation.name, operands
            if name not in at:
                at[name] = (prediction + errors[name]).astype(prediction.dtype) if name in errors else prediction
            predictions.append(prediction)
            values.append(at[name])
            return equation(at[name])
        if not equation.holds_names:
            return computed(equation, operands)
        results, (found, placed) = _within(equation, operands, errors, displace)
        predictions.extend(found)
        values.extend(placed)
        return results

    return program.run(arguments, step), (predictions, values)


def unnamed(function: Callable[..., PyTree], names: Collection[str]) -> Callable[..., PyTree]:
    """Remove some names from the values of a function; other names, and all values, are unchanged.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> from neurai_core.programs import read_program
    >>> program = read_program(unnamed(lambda x: checkpoint_name(2 * x, "y"), ["y"]), 1.0)
    >>> [one.name for one in named_values(program)]
    []
    """

    def run(program: Program, arguments: Sequence[Any], slices: PyTree) -> tuple[list[Any], PyTree]:
        def step(equation: Equation, operands: list[Any]) -> Sequence[Any]:
            if equation.name in names:
                return operands
            if equation.body is None or equation.primitive in CUSTOM or not equation.holds_names:
                return equation(*operands)
            return equation.descend(operands, (), run)[0]

        return program.run(arguments, step), ()

    def call(*args: PyTree) -> PyTree:
        program = read_program(function, *args)
        return jax.tree.unflatten(program.structure, run(program, jax.tree.leaves(args), ())[0])

    return call


def output_names(program: Program) -> frozenset[str]:
    """The names of values that a program returns unchanged.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> from neurai_core.programs import read_program
    >>> output_names(read_program(lambda x: checkpoint_name(checkpoint_name(x, "h") + 1, "y"), 1.0))
    frozenset({'y'})
    """
    made = {equation.results[0]: equation for equation in program.equations if equation.results}

    def name_of(output: Operand) -> str | None:
        """The name of a value, given before any changes of its shape."""
        equation = made.get(output) if isinstance(output, Value) else None
        if equation is None or equation.name is not None or equation.primitive.name not in RESHAPING:
            return None if equation is None else equation.name
        return name_of(equation.operands[0])

    return frozenset(name for name in map(name_of, program.outputs) if name is not None)


def _inside(equation: Equation, operands: Sequence[Any], given: Mapping[str, Any]) -> tuple[list[Any], list[jax.Array]]:
    results, found = _within(equation, operands, given, evaluate)
    # Evaluated again as a whole, because the body alone has lost the custom derivative.
    if equation.primitive in CUSTOM and not any(name in given for name in equation.names):
        results = equation(*operands)
    return results, found


def _within(equation: Equation, operands: Sequence[Any], by_name: Mapping[str, Any], evaluate: Evaluate) -> Any:
    """A call or a loop whose body is evaluated in a different way, with the values for its names."""
    if equation.body is None:
        raise _out_of_reach(equation)
    return equation.descend(operands, {name: by_name[name] for name in equation.names if name in by_name}, evaluate)


def _out_of_reach(equation: Equation) -> ModelError:
    name = equation.names[0]
    kind = str(equation.primitive)
    ways = {
        "while": "Take jax.lax.scan, or jax.lax.fori_loop with a fixed number of turns",
        "cond": "Compute both branches and choose with jnp.where",
    }
    return ModelError(
        f"The activity {name!r} is named inside {kind}, where no value can be free.",
        hint=f"{ways.get(kind, 'Name the value outside of it')}, or leave this value unnamed.",
    )


# ---------------------------------------------------------------------------- checks


def check_named_values(places: Sequence[Named], sources: Sequence[Labels], x: PyTree) -> None:
    """Check that named values can be activities.

    Args:
        places: where values are named.
        sources: the labels of each, from `sources_of`.
        x: the batch.

    Raises:
        ModelError: a value is not a float, has two shapes, has no batch axis, or depends on nothing.
    """
    shapes: dict[str, Shape] = {}
    for named, labels in zip(places, sources, strict=True):
        if not jnp.issubdtype(named.dtype, jnp.floating):
            raise ModelError(
                f"The activity {named.name!r} is of type {named.dtype}, expected floats: an activity can be moved.",
                hint="Name what is computed from it, or convert it first, such as with jax.nn.one_hot.",
            )
        if shapes.setdefault(named.name, named.shape) != named.shape:
            raise ModelError(
                f"The name {named.name!r} stands for values of shapes {shapes[named.name]} and {named.shape}.",
                hint="Each further use of a name is another prediction of the same activity; give others a new name.",
            )
        if not labels:
            raise ModelError(
                f"The activity {named.name!r} depends on nothing: neither a parameter nor the input enters it.",
                hint="Let a parameter predict it, such as activity(params['prior'] + jnp.zeros((len(x), 8)), 'z'), or "
                "jax.lax.stop_gradient(params['prior']) if it is not to learn.",
            )
        _check_batch_axis(named, x)


def _check_batch_axis(named: Named, x: PyTree) -> None:
    """Check for a batch axis, which may be merged with others and, under `jax.vmap`, need not come first."""
    lengths = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x) if jnp.shape(leaf)}
    own = named.shape[named.loops :]
    if lengths and not any(axis % length == 0 for axis in own for length in lengths if length):
        raise ModelError(
            f"The activity {named.name!r} has shape {own} and no batch axis, for a batch of {min(lengths)}.",
            hint="Every example has activities of its own: name the value before it is reduced over the batch.",
        )

"""Programs: the computation of a JAX function as a flat list of equations that can be evaluated one by one.

``jax.make_jaxpr`` nests: functions under ``jit`` are programs inside programs and share their variables between calls.
Here calls are inlined, and every equation reads and writes its own values. Anything that cannot be inlined without
losing its meaning (loops, rematerialization, custom derivatives) stays a single equation, with the program inside as
its `body`.

Only the public interface of JAX is used (`jax.extend.core`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import jax
from jax.extend import core as jex
from jax.extend.core import primitives

from neurai_core.arrays import PyTree

Primitives: TypeAlias = frozenset[Any]
JITS: Primitives = frozenset([primitives.jit_p, primitives.closed_call_p, primitives.call_p])
REMATS: Primitives = frozenset([primitives.remat_p])
CUSTOM: Primitives = frozenset([primitives.custom_jvp_call_p, primitives.custom_vjp_call_p])
CALLS: Primitives = JITS | REMATS | CUSTOM
LOOPS: Primitives = frozenset([primitives.scan_p])
_SHARDINGS = ("in_shardings", "out_shardings")


class Value:
    """One array of a program; compares by identity.

    Attributes:
        aval: its shape and dtype.
    """

    __slots__ = ("aval",)

    def __init__(self, aval: Any) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"<{self.aval.str_short()}>"


Operand: TypeAlias = Value | jex.Literal


Evaluate: TypeAlias = Callable[["Program", Sequence[Any], PyTree], tuple[list[Any], PyTree]]


class Loop(NamedTuple):
    """How a ``scan`` uses its operands ``(constants, carry, xs)`` and makes its results ``(carry, ys)``.

    Attributes:
        constants: number of operands that every iteration sees whole.
        carry: number of operands, and results, that are carried between iterations.
        length: number of iterations; all other operands and results have a leading axis of this length.
    """

    constants: int
    carry: int
    length: int


@dataclass(frozen=True, eq=False)
class Equation:
    """One operation of a program.

    Attributes:
        eqn: JAX's own equation: ``eqn.primitive``, ``eqn.params``.
        operands: the values it reads, or literals.
        results: the values it writes, new ones.
        inline: the calls that are inlined in its `body`.
    """

    eqn: jex.JaxprEqn
    operands: tuple[Operand, ...]
    results: tuple[Value, ...]
    inline: Primitives

    @property
    def primitive(self) -> Any:
        """The JAX primitive that it computes."""
        return self.eqn.primitive

    @property
    def name(self) -> str | None:
        """The name that it gives to its operand; None for every other operation."""
        return str(self.eqn.params["name"]) if self.primitive is primitives.name_p else None

    @cached_property
    def inside(self) -> tuple[jex.ClosedJaxpr, ...]:
        """The programs inside it, as JAX holds them: the branches of ``cond``, the body of ``scan``."""
        return tuple(_jaxprs(self.eqn.params))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every name that it gives, including those inside it, at any depth."""
        return (self.name,) if self.name is not None else tuple(chain.from_iterable(map(names_of, self.inside)))

    @property
    def holds_names(self) -> bool:
        """Whether a value inside it has a name, at any depth."""
        return self.name is None and bool(self.names)

    @cached_property
    def body(self) -> Program | None:
        """The program inside a call or a ``scan``; None for everything else, ``while`` and ``cond`` included."""
        if self.primitive not in CALLS | LOOPS:
            return None
        return _flattened(self.inside[0], self.inline)

    @cached_property
    def loop(self) -> Loop | None:
        """How a ``scan`` uses its operands; None for everything else."""
        if self.primitive not in LOOPS:
            return None
        # From public facts: what is sliced or stacked has one axis more outside of the loop; counts tell the rest.
        inside = self.inside[0]
        sliced = sum(_is_sliced(outer.aval, inner) for outer, inner in zip(self.operands, inside.in_avals, strict=True))
        stacked = sum(
            _is_sliced(outer.aval, inner) for outer, inner in zip(self.results, inside.out_avals, strict=True)
        )
        carry = len(self.results) - stacked
        return Loop(len(self.operands) - sliced - carry, carry, int(self.eqn.params["length"]))

    def descend(self, operands: Sequence[Any], slices: PyTree, evaluate: Evaluate) -> tuple[list[Any], PyTree]:
        """Evaluate the body of a call or a ``scan`` in a different way.

        Rematerialization and shardings are kept; custom derivatives are not, because they apply to the whole.

        Args:
            operands: its operands.
            slices: further arguments of ``evaluate``; a loop passes one slice per iteration.
            evaluate: ``(body, operands, slices) -> (results, extras)``.

        Returns:
            ``(results, extras)``, with the extras of a loop stacked over its iterations.

        Example:
            >>> program = read_program(lambda x: jax.lax.scan(lambda c, _: (2 * c, c), x, length=3), 1.0)
            >>> scan = program.equations[0]
            >>> def shifted(body, operands, shift):
            ...     results = body.run(operands, lambda equation, operands: equation(*operands))
            ...     return [results[0] + shift, results[1]], ()
            >>> results, _ = scan.descend([1.0], jax.numpy.ones(3), shifted)
            >>> [r.tolist() for r in results]
            [15.0, [1.0, 3.0, 7.0]]
        """
        body, params = self.body, self.eqn.params
        if body is None:
            raise TypeError(f"{self.primitive} has no body to descend into.")
        if self.loop is not None:
            return _descend_loop(self.loop, params, body, operands, slices, evaluate)
        if self.primitive in REMATS:
            run = jax.checkpoint(partial(evaluate, body), prevent_cse=params["prevent_cse"], policy=params["policy"])
            return run(list(operands), slices)  # type: ignore[no-any-return]
        given, wanted = (params.get(key, ()) for key in _SHARDINGS)
        results, extras = evaluate(body, _constrained(operands, given), slices)
        return _constrained(results, wanted), extras

    @cached_property
    def _alone(self) -> Callable[..., list[Any]]:
        """The equation as a function of its operands that are not literals."""
        eqn = self.eqn
        # Each input once, even if an operand occurs twice; literals stay inside the equation.
        used = list(dict.fromkeys(v for v in eqn.invars if not isinstance(v, jex.Literal)))
        program = jex.Jaxpr((), used, eqn.outvars, [eqn], effects=eqn.effects, debug_info=_no_names(used, eqn.outvars))
        return jex.jaxpr_as_fun(jex.ClosedJaxpr(program, ()))  # type: ignore[no-any-return]

    def __call__(self, *operands: Any) -> list[Any]:
        """Compute the results for given operands, including literals, keeping custom derivatives.

        >>> program = read_program(lambda x: 2 * x, 1.0)
        >>> program.equations[0](2.0, 5.0)
        [Array(10., dtype=float32, weak_type=True)]
        """
        given = zip(self.eqn.invars, operands, strict=True)
        used = {v: a for v, a in given if not isinstance(v, jex.Literal)}
        return self._alone(*used.values())


@dataclass(frozen=True, eq=False)
class Program:
    """A function as a flat list of equations.

    Attributes:
        inputs: the leaves of its arguments, in order.
        constants: arrays that the function closes over.
        equations: in order of computation.
        outputs: the leaves of its return value.
        structure: the tree structure of its return value; None for a program inside an equation.
    """

    inputs: tuple[Value, ...]
    constants: Mapping[Value, Any]
    equations: tuple[Equation, ...]
    outputs: tuple[Operand, ...]
    structure: Any = None

    def run(self, arguments: Sequence[Any], step: Callable[[Equation, list[Any]], Sequence[Any]]) -> list[Any]:
        """Evaluate the program, with ``step`` for each equation.

        Args:
            arguments: one for each input.
            step: ``(equation, operands) -> results``.

        Returns:
            The leaves of the outputs.

        Example:
            >>> program = read_program(lambda x: jax.numpy.sin(x) + 1, 0.0)
            >>> [float(y) for y in program.run([0.0], lambda equation, operands: equation(*operands))]
            [1.0]
        """
        values = {**self.constants, **dict(zip(self.inputs, arguments, strict=True))}

        def read(operand: Operand) -> Any:
            return operand.val if isinstance(operand, jex.Literal) else values[operand]

        for equation in self.equations:
            results = step(equation, [read(operand) for operand in equation.operands])
            values.update(zip(equation.results, results, strict=True))
        return [read(output) for output in self.outputs]


def read_program(function: Callable[..., PyTree], *args: PyTree, inline: Primitives = JITS) -> Program:
    """Trace a function to a program.

    Traced once per shape, as by `jax.jit`; only shapes and dtypes of the arguments are used.

    Args:
        function: any function that JAX can trace.
        *args: its arguments, arrays or tracers or `jax.ShapeDtypeStruct`.
        inline: the calls to inline: `JITS` keeps rematerialization and custom derivatives as one equation each;
            `CALLS` inlines these too, and so loses both. A ``jit`` that specifies shardings stays an equation.

    Example:
        >>> program = read_program(jax.jit(lambda x: jax.nn.relu(2 * x)), 1.0)
        >>> [equation.primitive.name for equation in program.equations]
        ['mul', 'custom_jvp_call']
        >>> program = read_program(jax.jit(lambda x: jax.nn.relu(2 * x)), 1.0, inline=CALLS)
        >>> [equation.primitive.name for equation in program.equations]
        ['mul', 'max']
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return program_of(closed, inline=inline, structure=jax.tree.structure(shapes))


def program_of(closed: jex.ClosedJaxpr, *, inline: Primitives = JITS, structure: Any = None) -> Program:
    """Convert a jaxpr to a program; the same jaxpr gives the same program.

    Args:
        closed: as `jax.make_jaxpr` returns it.
        inline: the calls that are inlined.
        structure: the tree structure of the function's return value.
    """
    # Programs, and their values, compare by identity: what is found for one has to hold for the next tracing, too.
    known = _PROGRAMS.setdefault(closed.jaxpr, {})
    if (inline, structure) not in known:
        known[inline, structure] = _flattened(closed, inline, structure)
    return known[inline, structure]


_PROGRAMS: WeakKeyDictionary[Any, dict[Any, Program]] = WeakKeyDictionary()


def _flattened(closed: jex.ClosedJaxpr, inline: Primitives, structure: Any = None) -> Program:
    constants: dict[Value, Any] = {}
    equations: list[Equation] = []

    def flatten(closed: jex.ClosedJaxpr, arguments: Sequence[Operand]) -> list[Operand]:
        jaxpr = closed.jaxpr
        # New values for every call: a function that is called twice shares its jaxpr, but not its values.
        own = [Value(v.aval) for v in jaxpr.constvars]
        constants.update(zip(own, closed.consts, strict=True))
        here: dict[Any, Operand] = dict(zip(jaxpr.constvars, own, strict=True))
        here.update(zip(jaxpr.invars, arguments, strict=True))

        def operand(atom: Any) -> Operand:
            return atom if isinstance(atom, jex.Literal) else here[atom]

        for eqn in jaxpr.eqns:
            operands = tuple(map(operand, eqn.invars))
            results: Sequence[Operand]
            if eqn.primitive in inline and not is_sharded(eqn):
                results = flatten(next(_jaxprs(eqn.params)), operands)
            else:
                results = values = tuple(Value(v.aval) for v in eqn.outvars)
                equations.append(Equation(eqn, operands, values, inline))
            here.update(zip(eqn.outvars, results, strict=True))
        return [operand(atom) for atom in jaxpr.outvars]

    inputs = tuple(Value(v.aval) for v in closed.jaxpr.invars)
    outputs = tuple(flatten(closed, inputs))
    return Program(inputs, constants, tuple(equations), outputs, structure)


def _jaxprs(params: Mapping[str, Any]) -> Iterator[jex.ClosedJaxpr]:
    """The programs among the settings of an equation, in order."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, jex.ClosedJaxpr):
                yield one
            elif isinstance(one, jex.Jaxpr):
                yield jex.ClosedJaxpr(one, ())


def names_of(closed: jex.ClosedJaxpr) -> Iterator[str]:
    """The names that a jaxpr gives to values, at any depth.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> list(names_of(jax.make_jaxpr(jax.jit(lambda x: checkpoint_name(x, "h")))(1.0)))
    ['h']
    """
    for eqn in closed.jaxpr.eqns:
        if eqn.primitive is primitives.name_p:
            yield str(eqn.params["name"])
        for inside in _jaxprs(eqn.params):
            yield from names_of(inside)


def primitives_of(closed: jex.ClosedJaxpr) -> Iterator[str]:
    """The names of the primitives of a jaxpr, at any depth.

    >>> list(primitives_of(jax.make_jaxpr(jax.jit(lambda x: 2 * x))(1.0)))
    ['jit', 'mul']
    """
    for eqn in closed.jaxpr.eqns:
        yield str(eqn.primitive)
        for inside in _jaxprs(eqn.params):
            yield from primitives_of(inside)


def is_sharded(eqn: jex.JaxprEqn) -> bool:
    """Whether a call specifies shardings of its arguments or results."""
    said = [one for key in _SHARDINGS for one in eqn.params.get(key, ())]
    return any(isinstance(one, jax.sharding.Sharding) for one in said)


def _constrained(arrays: Sequence[Any], shardings: Sequence[Any]) -> list[Any]:
    """Arrays sharded as specified by a call."""
    if not any(isinstance(one, jax.sharding.Sharding) for one in shardings):
        return list(arrays)
    pairs = zip(arrays, shardings, strict=True)
    said = jax.sharding.Sharding
    return [jax.lax.with_sharding_constraint(a, s) if isinstance(s, said) else a for a, s in pairs]


def _descend_loop(
    loop: Loop,
    params: Mapping[str, Any],
    body: Program,
    operands: Sequence[Any],
    slices: PyTree,
    evaluate: Evaluate,
) -> tuple[list[Any], PyTree]:
    first, last = loop.constants, loop.constants + loop.carry
    constants, carry, xs = operands[:first], operands[first:last], operands[last:]

    def turn(carry: list[Any], sliced: tuple[list[Any], PyTree]) -> tuple[list[Any], tuple[list[Any], PyTree]]:
        results, extras = evaluate(body, [*constants, *carry, *sliced[0]], sliced[1])
        return results[: loop.carry], (results[loop.carry :], extras)

    settings = {key: params[key] for key in ("length", "reverse", "unroll")}
    final, (ys, extras) = jax.lax.scan(turn, list(carry), (list(xs), slices), **settings)
    return [*final, *ys], extras


def _is_sliced(outer: Any, inner: Any) -> bool:
    return len(outer.shape) > len(inner.shape)


def _no_names(inputs: Sequence[Any], outputs: Sequence[Any]) -> jex.DebugInfo:
    return jex.DebugInfo("equation", "one equation", ("",) * len(inputs), ("",) * len(outputs))

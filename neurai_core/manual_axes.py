"""Rules inside ``jax.shard_map``: on every device, an estimate covers the rows that are there.

With the checks of ``shard_map`` on, JAX's types say over which axes of the mesh an array varies. A loop that begins
with constants and continues with data is then an error, and so is nearly every relaxation. A rule is therefore traced
without these types, as on one device; afterwards all of its results vary wherever one of its arguments does. Gradients
are local, also those of replicated parameters: average them with ``jax.lax.pmean``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from neurai_core.arrays import PyTree


class Where(NamedTuple):
    """The mesh, and the axes over which results vary."""

    mesh: Any
    axes: frozenset[str]


def on_own_rows(function: Callable[..., Any], *args: PyTree) -> Any:
    """``function(*args)``, traced as on one device where an argument varies over manual axes of a mesh.

    It can be mapped, and differentiated in reverse mode.

    Args:
        function: of trees of arrays. It may close over traced values that are the same on all devices.
        *args: its arguments.

    >>> on_own_rows(lambda x: x + 1, 1.0)
    2.0
    """
    leaves, tree = jax.tree.flatten(args)
    over = [one for one in map(jax.typeof, leaves) if _axes(one)]
    if not over:
        return function(*args)
    where = Where(over[0].sharding.mesh, frozenset().union(*map(_axes, over)))
    bare: Any = jax.tree.unflatten(tree, _bare(leaves))
    traced, results = jax.make_jaxpr(function, return_shape=True)(*bare)
    # Operands like the arguments, because a function with its own derivative must not close over traced values.
    closed_over = [jnp.asarray(one) for one in traced.consts]

    def run(*operands: Any) -> Any:
        consts, own = operands[: len(closed_over)], operands[len(closed_over) :]
        return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(*own)

    return jax.tree.unflatten(jax.tree.structure(results), _differentiable(run, where)(*closed_over, *leaves))


def is_manual(leaf: Any) -> bool:
    """Whether an array varies over manual axes of a mesh.

    >>> is_manual(jnp.ones(3))
    False
    """
    return isinstance(leaf, jax.Array) and bool(_axes(jax.typeof(leaf)))


def _differentiable(run: Callable[..., Any], where: Where) -> Callable[..., Any]:
    """``run`` on own rows; its backward pass runs it again, and adds up over devices what belongs to one copy."""

    @jax.custom_vjp
    def forward(*operands: Any) -> Any:
        return _bound(run, operands, where)

    def backward(operands: Sequence[Any], cotangents: Any) -> tuple[Any, ...]:
        # The primitive has no derivative: the backward pass is another program on own rows, which runs forward again.
        floats = [i for i, one in enumerate(operands) if jnp.issubdtype(one.dtype, jnp.inexact)]

        def pull(operands: Sequence[Any], cotangents: Any) -> Any:
            def of_floats(*values: Any) -> Any:
                moved = dict(zip(floats, values, strict=True))
                return [
                    out
                    for out in run(*(moved.get(i, one) for i, one in enumerate(operands)))
                    if jnp.issubdtype(out.dtype, jnp.inexact)
                ]

            return jax.vjp(of_floats, *(operands[i] for i in floats))[1](cotangents)

        given = [one for one in cotangents if jnp.issubdtype(one.dtype, jnp.inexact)]
        leaves, tree = jax.tree.flatten((list(operands), given))
        found = _bound(lambda *leaves: pull(*jax.tree.unflatten(tree, leaves)), leaves, where)
        slopes: list[Any] = [None] * len(operands)
        for i, slope in zip(floats, found, strict=True):
            # An operand that does not vary over an axis is one value for all devices there: their slopes add up.
            copies = where.axes - _axes(jax.typeof(operands[i]))
            slopes[i] = jax.lax.psum(slope, tuple(copies)) if copies else slope
        return tuple(slopes)

    forward.defvjp(lambda *operands: (forward(*operands), operands), backward)
    return forward


def _bound(function: Callable[..., Any], operands: Sequence[Any], where: Where) -> Any:
    program = jax.make_jaxpr(function)(*_bare(operands))
    return _own_rows.bind(*operands, program=program, where=where)


def _bare(leaves: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in map(jax.typeof, leaves)]


def _axes(aval: Any) -> frozenset[str]:
    return frozenset(aval.manual_axis_type.varying)


_own_rows = Primitive("own_rows")
_own_rows.multiple_results = True


@_own_rows.def_abstract_eval
def _result_types(*_: Any, program: ClosedJaxpr, where: Where) -> Any:
    def varying(aval: Any) -> Any:
        unsharded = NamedSharding(where.mesh, PartitionSpec(*[None] * aval.ndim))
        return aval.update(sharding=unsharded, manual_axis_type=type(aval.manual_axis_type)(varying=where.axes))

    return [varying(aval) for aval in program.out_avals]


def _map(args: Any, axes: Any, *, program: ClosedJaxpr, where: Where) -> Any:
    mapped = _bound(jax.vmap(jaxpr_as_fun(program), in_axes=tuple(axes)), args, where)
    return mapped, [0] * len(mapped)


def _lower(context: Any, *values: Any, program: ClosedJaxpr, where: Where) -> Any:
    # The types only say over which axes values vary; what is computed on one device is the same without them.
    bare = context.replace(avals_in=program.in_avals, avals_out=program.out_avals)
    return mlir.lower_fun(jaxpr_as_fun(program), multiple_results=True)(bare, *values)


mlir.register_lowering(_own_rows, _lower)
batching.primitive_batchers[_own_rows] = _map

"""Rules inside ``jax.shard_map``: an estimate is that of the rows on its own device.

With the checks of ``shard_map`` on, JAX's types say over which axes of the mesh an array varies. A loop that begins
with constants and goes on with data is then an error, and so is nearly every relaxation. A rule is therefore traced
without these types, as on one device; afterwards all of its results vary wherever one of its arguments does. Gradients
are local, also those of replicated parameters: average them with ``jax.lax.pmean``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from neurai_core.arrays import PyTree


def on_own_rows(function: Callable[..., Any], *args: PyTree) -> Any:
    """``function(*args)``, traced as on one device where an argument varies over manual axes of a mesh.

    Args:
        function: of trees of arrays.
        *args: its arguments.

    >>> on_own_rows(lambda x: x + 1, 1.0)
    2.0
    """
    leaves, tree = jax.tree.flatten(args)
    types = [jax.typeof(leaf) for leaf in leaves]
    over = [one for one in types if one.manual_axis_type.varying]
    if not over:
        return function(*args)
    where = over[0].sharding.mesh, frozenset().union(*(one.manual_axis_type.varying for one in over))
    bare: Any = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in types])
    program, results = jax.make_jaxpr(function, return_shape=True)(*bare)
    return jax.tree.unflatten(jax.tree.structure(results), _own_rows.bind(*leaves, program=program, where=where))


_own_rows = Primitive("own_rows")
_own_rows.multiple_results = True


@_own_rows.def_abstract_eval
def _result_types(*_: Any, program: ClosedJaxpr, where: tuple[Any, frozenset[str]]) -> Any:
    mesh, axes = where

    def varying(aval: Any) -> Any:
        unsharded = NamedSharding(mesh, PartitionSpec(*[None] * aval.ndim))
        return aval.update(sharding=unsharded, manual_axis_type=type(aval.manual_axis_type)(varying=axes))

    return [varying(aval) for aval in program.out_avals]


def _map(args: Any, axes: Any, *, program: ClosedJaxpr, where: Any) -> Any:
    mapped = on_own_rows(jax.vmap(jaxpr_as_fun(program), in_axes=axes), *args)
    return mapped, [0] * len(mapped)


def _lower(context: Any, *values: Any, program: ClosedJaxpr, where: Any) -> Any:
    bare = context.replace(avals_in=program.in_avals, avals_out=program.out_avals)
    return mlir.lower_fun(jaxpr_as_fun(program), multiple_results=True)(bare, *values)


mlir.register_lowering(_own_rows, _lower)
batching.primitive_batchers[_own_rows] = _map

"""Rules over meshes with explicit axes: they run with automatic ones, so that no rule has to name a sharding.

With explicit axes, JAX's types say how every array is sharded, and an operation whose result could be sharded in two
ways is an error: a slice of a few examples, a transposed layer. Inside a rule the compiler decides instead. Gradients
and state come back sharded like parameters and state; the rest of the estimate is on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from neurai_core.arrays import PyTree
from neurai_core.manual_axes import is_manual, on_own_rows
from neurai_core.rule import Estimate, State

_EVERYWHERE = PartitionSpec()


def on_automatic_axes(function: Callable[..., Any], out_sharding: Any, *args: PyTree) -> Any:
    """``function(*args)``, computed with automatic axes where an argument lies on a mesh with explicit ones.

    Args:
        function: of positional arguments.
        out_sharding: a tree, or a prefix of one, with the ``PartitionSpec`` of every result.
        *args: trees of arrays.

    >>> on_automatic_axes(lambda x: x + 1, PartitionSpec(), 1.0)
    2.0
    """
    explicit = next(filter(_is_explicit, jax.tree.leaves(args)), None)
    if explicit is None:
        return function(*args)
    with nullcontext() if not jax.sharding.get_abstract_mesh().empty else _mesh_of(explicit):
        return jax.sharding.auto_axes(function, out_sharding=out_sharding)(*args)


def estimated(
    estimate: Callable[..., Any], model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
) -> Any:
    """``estimate(model, params, state, batch, key=key)`` of a rule, on automatic axes.

    >>> estimated(lambda model, params, state, batch, *, key: params, None, 1.0, (), ())
    1.0
    """

    def run(params: PyTree, state: PyTree, batch: PyTree, key: Any) -> Any:
        return estimate(model, params, state, batch, key=key)

    if not _any_explicit(params, state, batch):  # inside shard_map, axes are manual
        return on_own_rows(run, params, state, batch, key)
    after = State(_specs(state.model_state), _specs(state.own)) if isinstance(state, State) else _specs(state)
    everywhere: Any = _EVERYWHERE
    sharded = Estimate(_specs(params), everywhere, everywhere, everywhere), after
    return on_automatic_axes(run, sharded, params, state, batch, key)


def predicted(predict: Callable[..., Any], model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> Any:
    """``predict(model, params, x, state)`` of a rule, on automatic axes; outputs keep the sharding of the batch axis.

    >>> predicted(lambda model, params, x, state: params * x, None, 2.0, 3.0)
    6.0
    """

    def run(params: PyTree, x: PyTree, state: PyTree) -> Any:
        return predict(model, params, x, state)

    return by_example(run, x, params, x, state)


def by_example(function: Callable[..., Any], batch: PyTree, *args: PyTree) -> Any:
    """``function(*args)`` on automatic axes, whose results all have the batch axis first and keep its sharding.

    >>> by_example(lambda x: 2 * x, 3.0, 3.0)
    6.0
    """
    if not _any_explicit(*args):
        return on_own_rows(function, *args)
    axis = next((spec[:1] for spec in map(_spec, jax.tree.leaves(batch)) if len(spec)), ())
    return on_automatic_axes(function, PartitionSpec(*axis), *args)


def _any_explicit(*args: PyTree) -> bool:
    """Whether axes are explicit where arrays lie; inside ``shard_map``, the manual ones decide."""
    leaves = jax.tree.leaves(args)
    return any(map(_is_explicit, leaves)) and not any(map(is_manual, leaves))


def _is_explicit(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and AxisType.Explicit in jax.typeof(leaf).sharding.mesh.axis_types


def _mesh_of(leaf: jax.Array) -> AbstractContextManager[Any]:
    """The mesh of an array as the current one, where the caller has set none."""
    if isinstance(leaf, jax.core.Tracer):
        return jax.sharding.use_abstract_mesh(jax.typeof(leaf).sharding.mesh)
    sharding: Any = leaf.sharding
    return jax.set_mesh(sharding.mesh)


def _specs(tree: PyTree) -> PyTree:
    """The shardings of a tree; of one that is empty, but may be filled, that on every device."""
    return jax.tree.map(_spec, tree) if jax.tree.leaves(tree) else _EVERYWHERE


def _spec(leaf: Any) -> PartitionSpec:
    return jax.typeof(leaf).sharding.spec if isinstance(leaf, jax.Array) else _EVERYWHERE

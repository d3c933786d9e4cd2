"""Rules over meshes with explicit axes: they run with automatic ones, so that no rule has to name a sharding.

With explicit axes, JAX's types say how every array is sharded, and an operation whose result could be sharded in two
ways is an error: a slice of a few examples, a transposed layer. Inside a rule the compiler decides instead. Gradients
and state come back sharded like parameters and state, what is left of the estimate on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from neurai_core.arrays import PyTree
from neurai_core.rule import Estimate, State

_EVERYWHERE = PartitionSpec()


def has_explicit_axes(tree: PyTree) -> bool:
    """Whether an array of a tree lies on a mesh with explicit axes.

    >>> import jax.numpy as jnp
    >>> has_explicit_axes({"w": jnp.ones(3)})
    False
    """
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return any(AxisType.Explicit in jax.typeof(leaf).sharding.mesh.axis_types for leaf in arrays)


def estimated(estimate: Callable[..., Any], params: PyTree, state: PyTree, batch: PyTree, key: Any) -> Any:
    """``estimate(params, state, batch, key)`` of a rule, computed with automatic axes.

    >>> estimated(lambda params, state, batch, key: params, 1.0, (), (), None)
    1.0
    """
    if not has_explicit_axes((params, state, batch)):
        return estimate(params, state, batch, key)
    after = State(_specs(state.model_state), _specs(state.own)) if isinstance(state, State) else _specs(state)
    shardings = Estimate(_specs(params), _EVERYWHERE, _EVERYWHERE, _EVERYWHERE), after
    return jax.sharding.auto_axes(estimate, out_sharding=shardings)(params, state, batch, key)


def predicted(predict: Callable[..., Any], params: PyTree, x: PyTree, state: PyTree) -> Any:
    """``predict(params, x, state)`` of a rule, computed with automatic axes; outputs are sharded like the batch axis of x.

    >>> predicted(lambda params, x, state: params * x, 2.0, 3.0, ())
    6.0
    """
    if not has_explicit_axes((params, x, state)):
        return predict(params, x, state)
    batch = PartitionSpec(*_spec(jax.tree.leaves(x)[0])[:1])
    return jax.sharding.auto_axes(predict, out_sharding=batch)(params, x, state)


def _specs(tree: PyTree) -> PyTree:
    """The shardings of a tree; of one that is empty, but may be filled, that on every device."""
    return jax.tree.map(_spec, tree) if jax.tree.leaves(tree) else _EVERYWHERE


def _spec(leaf: Any) -> PartitionSpec:
    return jax.typeof(leaf).sharding.spec if isinstance(leaf, jax.Array) else _EVERYWHERE

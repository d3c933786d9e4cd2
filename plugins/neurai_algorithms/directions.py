"""Random directions in which rules try their parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree


def directions(key: jax.Array, params: PyTree, count: int) -> PyTree:
    """Independent standard normal numbers, (count, *shape) for every leaf, the same in every dtype.

    >>> directions(jax.random.key(0), {"w": jnp.ones((2, 3), jnp.bfloat16)}, 4)["w"].shape
    (4, 2, 3)
    """
    return jax.vmap(lambda one: direction(one, params))(jax.random.split(jax.random.fold_in(key, 1), count))


def direction(key: jax.Array, params: PyTree) -> PyTree:
    """One direction, in the form of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, jnp.shape(leaf), jnp.float32) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, [v.astype(leaf.dtype) for v, leaf in zip(drawn, leaves, strict=True)])


def weighted(slopes: jax.Array, vs: PyTree) -> PyTree:
    """The mean over directions of each, (count, ...), times its slope, (count,)."""
    return jax.tree.map(
        lambda v: (
            jnp.einsum("s,s...->...", slopes, v, preferred_element_type=slopes.dtype).astype(v.dtype)
            / jnp.asarray(len(slopes), v.dtype)
        ),
        vs,
    )

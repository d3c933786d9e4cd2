"""Random directions in which rules try their parameters."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree

AT_ONCE = 2**20  # numbers in the directions that are tried side by side; more of them only take memory


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


def mean_along(slope: Callable[[PyTree], jax.Array], key: jax.Array, params: PyTree, count: int) -> PyTree:
    """The mean of ``slope(v) v`` over independent directions v, as many side by side as are small together.

    >>> found = mean_along(lambda v: 2.0 * v, jax.random.key(0), jnp.zeros(()), 1000)  # E 2 v^2
    >>> abs(float(found) - 2) < 0.3
    True
    """
    keys = jax.random.split(jax.random.fold_in(key, 1), count)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    together = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * size <= AT_ONCE))

    def share(keys: jax.Array) -> PyTree:
        vs = jax.vmap(lambda one: direction(one, params))(keys)
        return weighted(jax.vmap(slope)(vs), vs)

    if together == count:
        return share(keys)
    parts = count // together
    wide = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), params)
    total, _ = jax.lax.scan(
        lambda total, keys: (jax.tree.map(jnp.add, total, share(keys)), None),
        wide,
        keys.reshape(parts, together, *keys.shape[1:]),
    )
    return jax.tree.map(lambda whole, leaf: (whole / parts).astype(leaf.dtype), total, params)


def weighted(slopes: jax.Array, vs: PyTree) -> PyTree:
    """The mean over directions of each, (count, ...), times its slope, (count,)."""
    return jax.tree.map(
        lambda v: (
            jnp.einsum("s,s...->...", slopes, v, preferred_element_type=slopes.dtype).astype(v.dtype)
            / jnp.asarray(len(slopes), v.dtype)
        ),
        vs,
    )

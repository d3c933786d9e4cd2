"""Random directions in which rules try their parameters, or the inputs of their units."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from neurai_algorithms.random_numbers import Draw, as_jax, in_one_pass
from neurai_core.arrays import PyTree

AT_ONCE = 2**20  # numbers in the directions that are tried side by side; more of them only take memory


def mean_along(
    slope: Callable[[PyTree], jax.Array], key: jax.Array, params: PyTree, count: int, distribution: str = "normal"
) -> PyTree:
    """The mean of ``slope(v) v`` over independent directions v, as many side by side as are small together.

    Args:
        slope: of a direction, a scalar; or (B,), if every leaf begins with that axis.
        key: from which directions are drawn, the same in every dtype.
        params: their form.
        count: how many there are.
        distribution: of the numbers in them, ``normal`` or ``signs``.

    >>> found = mean_along(lambda v: 2.0 * v, jax.random.key(0), jnp.zeros(()), 1000)  # E 2 v^2
    >>> abs(float(found) - 2) < 0.3
    True
    """
    leaves, structure = jax.tree.flatten(params)
    size = sum(leaf.size for leaf in leaves)
    together = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * size <= AT_ONCE))

    def drawn(keys: jax.Array, draw: Draw) -> PyTree:
        """(n, *shape) for every leaf, from (n, leaves) keys."""
        vs = [jax.vmap(partial(draw, shape=leaf.shape))(keys[:, i]) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, [v.astype(leaf.dtype) for v, leaf in zip(vs, leaves, strict=True)])

    def share(vs: PyTree) -> PyTree:
        return weighted(jax.vmap(slope)(vs), vs)

    def plus(total: PyTree, vs: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, share(vs)), None

    def plus_drawn(total: PyTree, keys: jax.Array) -> tuple[PyTree, None]:
        return jax.lax.scan(plus, total, _groups(drawn(keys, in_one_pass(distribution)), together))[0], None

    keys = jax.random.split(jax.random.fold_in(key, 1), count)
    keys = jax.vmap(lambda one: jax.random.split(one, len(leaves)))(keys)
    if together == count:
        return share(drawn(keys, as_jax(distribution)))
    parts = count // together
    # Two at least: XLA stores what a loop goes over. Otherwise it would draw the numbers again wherever they are used.
    drawn_at_once = together * next((n for n in (2, 3, 5) if parts % n == 0), 1)
    wide = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), params)
    total, _ = jax.lax.scan(plus_drawn, wide, _groups(keys, drawn_at_once))
    return jax.tree.map(lambda whole, leaf: (whole / parts).astype(leaf.dtype), total, params)


def weighted(slopes: jax.Array, vs: PyTree) -> PyTree:
    """The mean over directions of each, (count, ...), times its slope, (count,) or (count, B)."""
    axes = "sb"[: slopes.ndim]
    return jax.tree.map(
        lambda v: (
            jnp.einsum(f"{axes},{axes}...->{axes[1:]}...", slopes, v, preferred_element_type=slopes.dtype).astype(
                v.dtype
            )
            / jnp.asarray(len(slopes), v.dtype)
        ),
        vs,
    )


def _groups(tree: PyTree, count: int) -> PyTree:
    """Leaves of (n, ...) as (n / count, count, ...)."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]), tree)

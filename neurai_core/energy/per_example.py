"""Inner products of every example of a batch."""

from __future__ import annotations

import jax


def half_squares(a: jax.Array) -> jax.Array:
    """``1/2 |a|^2`` of every example, ``(B,)``; analytic, so complex entries are not conjugated.

    >>> import jax.numpy as jnp
    >>> half_squares(jnp.array([[3.0, 4.0]])).tolist()
    [12.5]
    """
    return 0.5 * dot(a, a)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Inner product of every example, ``(B,)``, without conjugation.

    >>> import jax.numpy as jnp
    >>> dot(jnp.ones((2, 3)), jnp.ones((2, 3))).tolist()
    [3.0, 3.0]
    """
    return (a * b).reshape(len(a), -1).sum(axis=1)

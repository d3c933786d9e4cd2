"""Matrix products of several steps at once: of all, or of chunks, in memory that does not grow with time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

STEPS = 5  # of a chunk, at most: more rows make products faster, and take memory


def chunk_length(steps: int) -> int:
    """The steps of a chunk: the largest number up to `STEPS` that divides all steps.

    >>> chunk_length(100), chunk_length(12), chunk_length(7)
    (5, 4, 1)
    """
    return max(n for n in range(1, STEPS + 1) if steps % n == 0)


def chunk_of(sequence: jax.Array, index: jax.Array, length: int) -> jax.Array:
    """A chunk of ``(B, T, ...)`` with the axis of steps first, ``(length, B, ...)``.

    >>> chunk_of(jnp.arange(6).reshape(1, 6), jnp.asarray(1), 2).tolist()
    [[2], [3]]
    """
    return jnp.moveaxis(jax.lax.dynamic_slice_in_dim(sequence, index * length, length, 1), 1, 0)


def over_chunks(chunk: Callable[[Any, jax.Array], Any], begin: Any, count: int, unroll: int = 1) -> Any:
    """What is carried after so many chunks, of a function of what is carried and the number of the chunk.

    >>> int(over_chunks(lambda total, index: total + index, jnp.asarray(0), 4))
    6
    """

    def after(at: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], None]:
        carried, index = at  # counted, because a list of all chunks would grow with time
        return (chunk(carried, index), index + 1), None

    (ended, _), _ = jax.lax.scan(after, (begin, jnp.zeros((), int)), length=count, unroll=unroll)
    return ended


def flat(x: jax.Array) -> jax.Array:
    """Steps and examples as one axis, ``(K, B, ...) -> (K B, ...)``.

    >>> flat(jnp.ones((2, 3, 4))).shape
    (6, 4)
    """
    return x.reshape(-1, *x.shape[2:])


def folded(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """A function of batches, applied to those of all steps at once, ``(K, B, ...)``.

    >>> folded(lambda x: x @ jnp.ones((4, 5)), jnp.ones((2, 3, 4))).shape
    (2, 3, 5)
    """
    found = function(flat(x))
    return found.reshape(*x.shape[:2], *found.shape[1:])

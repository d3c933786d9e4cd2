"""Random numbers with mean 0 and variance 1, drawn in a single pass over them.

On a CPU, JAX runs the rounds of its generator as a loop, which reads and writes the whole array several times. Here
they are written out, and compiled together with what makes normal numbers of the bits. Normal numbers are those of JAX,
bit for bit, in less than half the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Draw = Callable[..., jax.Array]  # of a key and a shape

PARITY = np.uint32(0x1BD11BDA)
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent standard normal numbers in float32: ``jax.random.normal(key, shape, jnp.float32)``.

    >>> key = jax.random.key(0)
    >>> bool((normal(key, (25, 40)) == jax.random.normal(key, (25, 40))).all())
    True
    """
    if not _is_written_out(key, shape):
        return jax.random.normal(key, shape, jnp.float32)
    # The bits are the digits of a number between 1 and 2.
    between = lax.bitcast_convert_type((bits(key, shape) >> np.uint32(9)) | np.uint32(0x3F800000), jnp.float32)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(lowest, (between - 1) * (1 - lowest) + lowest)
    return np.float32(np.sqrt(2)) * lax.erf_inv(uniform)


def signs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """-1 or 1 in float32, with equal chances and independent: one bit each, of the words of ``jax.random.bits``.

    >>> signs(jax.random.key(0), (2, 4)).tolist()
    [[1.0, 1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]]
    """
    size = math.prod(shape)
    words = -(-size // 32)
    digits = (jax.random.bits(key, (words,))[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return (2 * digits.astype(jnp.float32) - 1).reshape(-1)[:size].reshape(shape)


def as_jax(distribution: str) -> Draw:
    """How JAX draws these numbers: it stores them on the way."""
    return signs if distribution == "signs" else partial(jax.random.normal, dtype=jnp.float32)


def in_one_pass(distribution: str) -> Draw:
    """The same numbers in less time, if what uses them makes XLA store them."""
    return signs if distribution == "signs" else normal


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random words: ``jax.random.bits(key, shape)``, of a key of Threefry."""
    place = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    one, other = threefry(jax.random.key_data(key), (jnp.zeros_like(place), place))
    return one ^ other


def threefry(key: jax.Array, counter: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The generator Threefry-2x32 with 20 rounds: Salmon et al. 2011, doi:10.1145/2063384.2063405.

    Args:
        key: two words.
        counter: two arrays of words.

    >>> zero = jnp.zeros(2, jnp.uint32)
    >>> [hex(word) for word in threefry(zero, zero)]  # as the authors list it
    ['0x6b200159', '0x99ba4efe']
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ PARITY
    one, other = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for turn in map(np.uint32, ROTATIONS[group % 2]):
            one = one + other
            other = one ^ ((other << turn) | (other >> (np.uint32(32) - turn)))
        one = one + keys[(group + 1) % 3]
        other = other + keys[(group + 2) % 3] + np.uint32(group + 1)
    return one, other


def _is_written_out(key: jax.Array, shape: tuple[int, ...]) -> bool:
    """Whether JAX would use this generator, with one counter per number."""
    counted = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]  # not in its stubs
    return bool(counted) and jax.random.key_impl(key) == "threefry2x32" and math.prod(shape) < 2**32

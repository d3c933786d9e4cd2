"""A convolution and average pooling behind it as one convolution.

Means over windows of w x w pixels after a kernel of k x k are a kernel of (k + w - 1) x (k + w - 1), the mean of its
shifts, with a stride of w. It needs fewer multiplications: for k = 5 and w = 2, 36 instead of 100 per pooled pixel and
channel. Except in images of one channel, the w x w pixels of a tile become channels, and the kernel one of 3 x 3 and
stride 1, for products of a better shape.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.layered.activations import identity
from neurai_core.layered.convolution import ConvLinear
from neurai_core.layered.convolving import AUTO, Convolution
from neurai_core.layered.layer import Layer
from neurai_core.layered.pooling import AvgPoolLinear


def joins(layer: Layer, after: Layer, own: PyTree, x: Any) -> bool:
    """Whether `mean_pooled` takes two layers on images x: a convolution as it is by default, and pooling side by side.

    It has to need fewer multiplications, and to run on a CPU in float32 or float64.
    """
    conv, pool = layer.linear, after.linear
    if not isinstance(conv, ConvLinear) or layer.activation is not identity or not isinstance(pool, AvgPoolLinear):
        return False
    usual = conv.forms == AUTO and conv.dilation == (1, 1) and pool.window == pool.stride
    if not usual or x.ndim != 4 or x.shape[-1] != own["w"].shape[2] or jax.default_backend() != "cpu":
        return False
    taps = math.prod(own["w"].shape[:2]) * math.prod(pool.window)
    fewer = math.prod(_whole(conv, pool, own["w"])) < taps
    return fewer and min(_sizes(conv, pool, own["w"], x)) > 0 and x.dtype in (jnp.float32, jnp.float64)


def mean_pooled(layer: Layer, after: Layer, params: PyTree, x: jax.Array) -> jax.Array:
    """A convolution and the pooling after it as one convolution, equal to both up to rounding.

    >>> from neurai_core.layered import avg_pool, conv
    >>> layer, after, x = conv(4, 3, padding="VALID"), avg_pool(2), jnp.ones((2, 8, 8, 1))
    >>> params, _ = layer.init(jax.random.key(0), (8, 8, 1))
    >>> joins(layer, after, params, x), mean_pooled(layer, after, params, x).shape
    (True, (2, 3, 3, 4))
    """
    conv, pool = layer.linear, after.linear
    assert isinstance(conv, ConvLinear) and isinstance(pool, AvgPoolLinear)
    dtype = jnp.result_type(x, params["w"])
    x, w = jnp.asarray(x, dtype), jnp.asarray(params["w"], dtype)
    whole, tile, sizes = _whole(conv, pool, w), _tile(conv, pool), _sizes(conv, pool, w, x)
    w = _mean_of_shifts(w, conv.stride, pool.window)
    w = jnp.pad(w, [*((0, most - side) for most, side in zip(whole, w.shape, strict=False)), (0, 0), (0, 0)])
    seen = [step * (size - 1) + extent for step, size, extent in zip(tile, sizes, whole, strict=True)]
    sides = zip(_pads(conv, w=params["w"], x=x), x.shape[1:3], seen, strict=True)
    pads = [(low, end - side - low, 0) for (low, _), side, end in sides]
    x = jax.lax.pad(x, jnp.zeros((), dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    if w.shape[2] == 1:
        y = Convolution(tile, "VALID")(x, w)
    else:
        y = Convolution((1, 1), "VALID")(_deep(x, tile), _deep(w.transpose(2, 0, 1, 3), tile, kernel=True))
    return y + params["b"] if "b" in params else y


def _mean_of_shifts(w: jax.Array, step: tuple[int, int], window: tuple[int, int]) -> jax.Array:
    """The mean of a kernel where it is for every pixel of a window."""
    for axis in (0, 1):
        beyond = step[axis] * (window[axis] - 1)
        pads = [[(i, beyond - i) if a == axis else (0, 0) for a in range(4)] for i in range(0, beyond + 1, step[axis])]
        w = sum((jnp.pad(w, one) for one in pads[1:]), jnp.pad(w, pads[0]))
    return w / math.prod(window)


def _deep(x: jax.Array, tile: tuple[int, int], *, kernel: bool = False) -> jax.Array:
    """Tiles as channels, ``(B, H, W, C) -> (B, H / h, W / w, h w C)``; of a kernel its channels stand for the batch."""
    (high, wide), (batch, height, width, channels) = tile, x.shape
    x = x.reshape(batch, height // high, high, width // wide, wide, channels)
    if not kernel:
        return x.swapaxes(2, 3).reshape(batch, height // high, width // wide, high * wide * channels)
    x = x.transpose(1, 3, 2, 4, 0, 5)
    return x.reshape(height // high, width // wide, high * wide * batch, channels)


def _tile(conv: ConvLinear, pool: AvgPoolLinear) -> tuple[int, int]:
    """The stride of both together."""
    return conv.stride[0] * pool.window[0], conv.stride[1] * pool.window[1]


def _whole(conv: ConvLinear, pool: AvgPoolLinear, w: Any) -> tuple[int, int]:
    """Height and width under the kernel of both together, in whole tiles."""
    sides = zip(w.shape[:2], conv.stride, pool.window, _tile(conv, pool), strict=True)
    height, width = (-(-(side + step * (extent - 1)) // tile) * tile for side, step, extent, tile in sides)
    return height, width


def _pads(conv: ConvLinear, w: Any, x: Any) -> list[tuple[int, int]]:
    if not isinstance(conv.padding, str):
        return list(conv.padding)
    return list(jax.lax.padtype_to_pads(x.shape[1:3], w.shape[:2], conv.stride, conv.padding))


def _sizes(conv: ConvLinear, pool: AvgPoolLinear, w: Any, x: Any) -> tuple[int, int]:
    """Height and width of the pooled output; windows that do not fit are left out."""
    sides = zip(x.shape[1:3], _pads(conv, w, x), w.shape[:2], conv.stride, pool.window, strict=True)
    height, width = (((n + sum(pads) - k) // step + 1) // extent for n, pads, k, step, extent in sides)
    return height, width

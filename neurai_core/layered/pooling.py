"""Pooling of images: means and maxima over windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.layered.images import check_image, pixels, pixels_text
from neurai_core.layered.layer import Layer, Stateless, linear_layer, no_params
from neurai_core.layered.shapes import in_floats

FEW = 16  # the most entries of a window that are handled one by one


@dataclass(frozen=True)
class AvgPoolLinear:
    """Mean over windows of ``(B, H, W, C)``: a linear map without parameters.

    Windows side by side are added up place by place, which is faster on a CPU than ``jax.lax.reduce_window``.
    """

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        check_image("avg_pool", x.shape[1:])
        x = in_floats(x, params)
        return _mean_of_tiles(self.window, x) if _side_by_side(self, x) else _mean(self.window, self.stride, x)

    def along(self, params: PyTree, x: jax.Array) -> jax.Array:
        """The derivative in the direction ``x``, at any point: the map itself, which is faster than its derivative."""
        return self(params, x)


def avg_pool(window: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> Layer:
    """Mean over windows of ``(B, H, W, C)`` images; windows that do not fit are left out.

    Args:
        window: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels; the window's own size by default.

    Raises:
        ModelError: a window or stride below 1.

    Example:
        >>> avg_pool(2).apply((), (), jnp.ones((1, 4, 4, 3)))[0].shape
        (1, 2, 2, 3)
    """
    window, stride = _window("avg_pool", window, stride)
    return linear_layer(no_params, AvgPoolLinear(window, stride), "identity", f"avg_pool({pixels_text(window)})")


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows of ``(B, H, W, C)``.

    Windows side by side are tiles of the image, seen by a reshape; the derivative is then a mask of the first maximum
    of every tile. It equals that of ``jax.lax.reduce_window``, which overlapping windows use, without the scattering
    that takes several times as long on a CPU.
    """

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        check_image("max_pool", x.shape[1:])
        x = in_floats(x, params)
        if self.side_by_side(x):
            return _largest_of_tiles(self.window, x)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *self.window, 1), (1, *self.stride, 1), "VALID")

    def difference(self, params: PyTree, x: jax.Array, d: jax.Array) -> jax.Array:
        """``self(x + d) - self(x)``; for tiles without cancellation, from how far every entry is below the maximum."""
        if not self.side_by_side(x):
            return self(params, (x + d).astype(x.dtype)).astype(d.dtype) - self(params, x).astype(d.dtype)
        top = _largest_of_tiles(self.window, x)
        tiles = _tiles(self.window, x)
        below = tiles.astype(d.dtype) - top[:, :, None, :, None].astype(d.dtype)
        return _largest_of_sums(self.window, _flat(below) + _cropped(self.window, d))

    def places(self, x: jax.Array) -> jax.Array:
        """Where in its window every maximum is, the first of equal ones; for windows side by side."""
        return _places(self.window, in_floats(x, ()))

    def picked(self, params: PyTree, x: jax.Array, places: jax.Array) -> jax.Array:
        """The entries at these places: linear in x, and the maxima if they are its own."""
        return _picked(self.window, in_floats(x, params), places)

    def side_by_side(self, x: jax.Array) -> bool:
        """Whether the windows lie side by side, and at least one fits."""
        return _side_by_side(self, x)


@dataclass(frozen=True)
class _Pooling(Stateless):
    """The ``apply`` of max pooling, which knows its own difference."""

    def difference(
        self, params: PyTree, model_state: PyTree, x: jax.Array, d: jax.Array, *, key: Any = None, train: bool = False
    ) -> jax.Array:
        """``f(x + d) - f(x)``."""
        pooled: Any = self.function
        return pooled.difference(params, x, d)


def _side_by_side(pool: AvgPoolLinear | MaxPool, x: jax.Array) -> bool:
    fits = all(side >= extent for side, extent in zip(x.shape[1:3], pool.window, strict=True))
    return pool.window == pool.stride and fits


def _cropped(window: tuple[int, int], x: jax.Array) -> jax.Array:
    """The part of the images that whole tiles cover."""
    height, width = (side // extent * extent for side, extent in zip(x.shape[1:3], window, strict=True))
    return x[:, :height, :width]


def _tiles(window: tuple[int, int], x: jax.Array) -> jax.Array:
    """``(B, H, W, C) -> (B, H', h, W', w, C)``."""
    x = _cropped(window, x)
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // window[0], window[0], width // window[1], window[1], channels)


def _flat(tiles: jax.Array) -> jax.Array:
    """``(B, H', h, W', w, C) -> (B, H, W, C)``."""
    batch, rows, height, columns, width, channels = tiles.shape
    return tiles.reshape(batch, rows * height, columns * width, channels)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _mean_of_tiles(window: tuple[int, int], x: jax.Array) -> jax.Array:
    if math.prod(window) > FEW:
        return _mean(window, window, x)
    return reduce(jnp.add, _entries(window, x)) / math.prod(window)


@_mean_of_tiles.defjvp
def _mean_of_changes(window: tuple[int, int], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (d,) = primals, tangents
    return _mean_of_tiles(window, x), _mean(window, window, d)


def _mean(window: tuple[int, int], stride: tuple[int, int], x: jax.Array) -> jax.Array:
    """By XLA, whose transpose is fast: one pass, which computes nothing again for every pixel of a window."""
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *window, 1), (1, *stride, 1), "VALID")
    return total / math.prod(window)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _largest_of_tiles(window: tuple[int, int], x: jax.Array) -> jax.Array:
    if math.prod(window) > FEW:
        return _tiles(window, x).max((2, 4))
    return reduce(jnp.maximum, _entries(window, x))


@_largest_of_tiles.defjvp
def _first_of_tiles(window: tuple[int, int], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (d,) = primals, tangents
    top = _largest_of_tiles(window, x)  # itself, so that its derivative is this one too
    return top, _picked(window, d, _places(window, x))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _largest_of_sums(window: tuple[int, int], x: jax.Array) -> jax.Array:
    """The same for sums that a relaxation computes anyway, where a mask is the faster derivative."""
    return _largest_of_tiles(window, x)


@_largest_of_sums.defjvp
def _first_of_sums(window: tuple[int, int], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (d,) = primals, tangents
    return _largest_of_sums(window, x), _masked(window, d, _places(window, x))


def _places(window: tuple[int, int], x: jax.Array) -> jax.Array:
    """Where the first maximum of every tile is.

    Entries are compared with each other, in pairs and pairs of these, not with a maximum: XLA may compute x again for
    each, rounded in another way, so that none would be equal.
    """
    if math.prod(window) > FEW:
        tiles = _tiles(window, x).swapaxes(2, 3)
        return tiles.reshape(*tiles.shape[:3], math.prod(window), tiles.shape[-1]).argmax(3)
    left = [(entry, jnp.int8(place)) for place, entry in enumerate(_entries(window, x))]
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        left = [_larger(*pair) for pair in pairs] + left[len(left) // 2 * 2 :]
    ((top, place),) = left
    return jnp.broadcast_to(place, top.shape)


def _larger(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Of two entries and their places the larger one, the first of equal ones."""
    above = b[0] > a[0]
    return jnp.where(above, b[0], a[0]), jnp.where(above, b[1], a[1])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _picked(window: tuple[int, int], x: jax.Array, places: jax.Array) -> jax.Array:
    """The entries of the tiles at these places."""
    if math.prod(window) > FEW:
        return _masked(window, x, places)
    parts = (jnp.where(places == place, entry, 0) for place, entry in enumerate(_entries(window, x)))
    return reduce(jnp.add, parts)


@_picked.defjvp
def _picked_changes(window: tuple[int, int], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x, places), (d, _) = primals, tangents
    return _picked(window, x, places), _masked(window, d, places)


def _masked(window: tuple[int, int], x: jax.Array, places: jax.Array) -> jax.Array:
    """The same by a sum over masked tiles, whose transpose is one pass over the image."""
    order = jnp.arange(math.prod(window), dtype=places.dtype).reshape(1, 1, window[0], 1, window[1], 1)
    return jnp.where(order == places[:, :, None, :, None], _tiles(window, x), 0).sum((2, 4))


def _entries(window: tuple[int, int], x: jax.Array) -> list[jax.Array]:
    """The tiles entry by entry, ``(B, H', W', C)`` each."""
    x, (height, width) = _cropped(window, x), window
    return [x[:, i::height, j::width] for i in range(height) for j in range(width)]


def max_pool(window: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> Layer:
    """Maximum over windows of ``(B, H, W, C)`` images; windows that do not fit are left out.

    Args:
        window: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels; the window's own size by default.

    Raises:
        ModelError: a window or stride below 1.

    Example:
        >>> max_pool(2).apply((), (), jnp.ones((1, 4, 4, 3)))[0].shape
        (1, 2, 2, 3)
    """
    window, stride = _window("max_pool", window, stride)
    return Layer(no_params, _Pooling(MaxPool(window, stride)), name=f"max_pool({pixels_text(window)})", numeric=True)


def _window(name: str, window: Any, stride: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    pair = pixels(window, f"{name} needs a window", f"For example {name}(2).")
    return pair, pair if stride is None else pixels(stride, f"{name} needs a stride", f"For example {name}(3, 2).")

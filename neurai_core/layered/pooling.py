"""Pooling of images: means and maxima over windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.layered.images import check_image, pixels, pixels_text
from neurai_core.layered.layer import Layer, Stateless, linear_layer, no_params
from neurai_core.layered.shapes import in_floats


@dataclass(frozen=True)
class AvgPoolLinear:
    """Mean over windows of ``(B, H, W, C)``: a linear map without parameters."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        check_image("avg_pool", x.shape[1:])
        x = in_floats(x, params)
        total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *self.window, 1), (1, *self.stride, 1), "VALID")
        return total / math.prod(self.window)


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
    """Maximum over windows of ``(B, H, W, C)``."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        check_image("max_pool", x.shape[1:])
        x = in_floats(x, params)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *self.window, 1), (1, *self.stride, 1), "VALID")


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
    return Layer(no_params, Stateless(MaxPool(window, stride)), name=f"max_pool({pixels_text(window)})", numeric=True)


def _window(name: str, window: Any, stride: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    pair = pixels(window, f"{name} needs a window", f"For example {name}(2).")
    return pair, pair if stride is None else pixels(stride, f"{name} needs a stride", f"For example {name}(3, 2).")

"""Convolutions of images."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered.images import check_image, pixels, pixels_text
from neurai_core.layered.layer import Layer, linear_layer
from neurai_core.layered.weights import Initializer, at_least_one, checked_initializer, starting_weights, with_bias


@dataclass(frozen=True)
class ConvLinear:
    """Two-dimensional cross-correlation plus bias on ``(B, H, W, C)``."""

    stride: tuple[int, int]
    padding: Any

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """Kernel ``w`` is ``(height, width, C_in, C_out)``."""
        y = self.along(params, x)
        return y + params["b"] if "b" in params else y

    def along(self, params: PyTree, x: jax.Array) -> jax.Array:
        """The convolution without bias: the derivative in the direction ``x``, at any point."""
        dtype = jnp.result_type(x, params["w"])
        return _convolved(self.stride, self.padding, jnp.asarray(x, dtype), jnp.asarray(params["w"], dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _convolved(stride: tuple[int, int], padding: Any, x: jax.Array, w: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, w, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@_convolved.defjvp
def _convolved_jvp(stride: tuple[int, int], padding: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Both terms with axes ordered so that the transpose of each is an NHWC convolution.

    In loops (a relaxation, a scan over time) XLA runs other layouts up to 20 times slower on a CPU.
    """
    (x, w), (dx, dw) = primals, tangents
    along = partial(jax.lax.conv_general_dilated, window_strides=stride, padding=padding)
    by_x = along(dx, w.swapaxes(2, 3), dimension_numbers=("NHWC", "HWOI", "NHWC"))
    by_w = along(x.transpose(3, 1, 2, 0), dw.transpose(2, 0, 1, 3), dimension_numbers=("CHWN", "IHWO", "HWNC"))
    return _convolved(stride, padding, x, w), by_x + by_w.transpose(2, 0, 1, 3)


@dataclass(frozen=True)
class ConvInit:
    """Normal kernels of variance ``gain / fan_in`` or those given, zero biases."""

    channels: int
    kernel: tuple[int, int]
    activation: str | Elementwise
    bias: bool
    initializer: Initializer | None = None

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Parameters ``{"w": (height, width, C_in, channels), "b": (channels,)}``."""
        check_image("A conv layer", input_shape)
        shape = (*self.kernel, input_shape[-1], self.channels)
        w = starting_weights(key, shape, math.prod(shape[:-1]), self.activation, self.initializer)
        return with_bias(w, self.bias), ()


def conv(
    channels: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Any = "SAME",
    activation: str | Elementwise = "identity",
    bias: bool = True,
    initializer: Initializer | None = None,
) -> Layer:
    """Two-dimensional convolution of ``(B, H, W, C)`` images, then an elementwise activation.

    Args:
        channels: number of output channels, at least 1.
        kernel: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels.
        padding: ``"SAME"``, ``"VALID"`` or ((top, bottom), (left, right)).
        activation: name or elementwise callable.
        bias: whether to add one bias per channel.
        initializer: ``(key, shape, dtype) -> w``, as for `dense`.

    Returns:
        A layer with params ``{"w": (height, width, C_in, channels), "b": (channels,)}``.

    Raises:
        ModelError: fewer than one channel, a kernel or stride below 1, or an invalid padding.

    Example:
        >>> params, _ = conv(4, 3).init(jax.random.key(0), (8, 8, 1))
        >>> params["w"].shape
        (3, 3, 1, 4)
    """
    channels = at_least_one(channels, "A conv layer needs at least 1 channel", "For example conv(16, 3).")
    kernel = pixels(kernel, "A conv layer needs a kernel", "For example conv(16, 3) or conv(16, (3, 5)).")
    stride = pixels(stride, "A conv layer needs a stride", "For example conv(16, 3, stride=2).")
    init = ConvInit(channels, kernel, activation, bias, checked_initializer(initializer))
    linear, name = ConvLinear(stride, _padding(padding)), f"conv({channels}, {pixels_text(kernel)})"
    return linear_layer(init, linear, activation, name)


PADDINGS = ("SAME", "SAME_LOWER", "VALID")


def _padding(given: Any) -> Any:
    """Padding as a convolution takes it, hashable."""
    if isinstance(given, str) and given.upper() in PADDINGS:
        return given.upper()
    try:
        pairs = () if isinstance(given, str) else tuple(tuple(map(operator.index, pair)) for pair in given)
    except TypeError:
        pairs = ()
    if len(pairs) != 2 or any(len(pair) != 2 for pair in pairs):
        raise ModelError(
            f"A conv layer has no padding {given!r}.",
            hint='Use "SAME", "VALID" or ((top, bottom), (left, right)), such as ((1, 1), (1, 1)).',
        )
    return pairs

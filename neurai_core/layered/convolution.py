"""Convolutions of images."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered.convolving import AUTO, ConvForms, Convolution
from neurai_core.layered.images import check_image, pixels, pixels_text
from neurai_core.layered.layer import Layer, linear_layer
from neurai_core.layered.weights import Initializer, at_least_one, checked_initializer, starting_weights, with_bias


@dataclass(frozen=True)
class ConvLinear:
    """Two-dimensional cross-correlation plus bias on ``(B, H, W, C)``."""

    stride: tuple[int, int]
    padding: Any
    dilation: tuple[int, int] = (1, 1)
    forms: ConvForms = AUTO

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """Kernel ``w`` is ``(height, width, C_in, C_out)``."""
        y = self.along(params, x)
        return y + params["b"] if "b" in params else y

    def along(self, params: PyTree, x: jax.Array) -> jax.Array:
        """The convolution without bias: the derivative in the direction ``x``, at any point."""
        _check_channels(jnp.shape(x), jnp.shape(params["w"]))
        dtype = jnp.result_type(x, params["w"])
        convolution = Convolution(self.stride, self.padding, self.dilation, self.forms)
        return convolution(jnp.asarray(x, dtype), jnp.asarray(params["w"], dtype))


def _check_channels(x: Shape, w: Shape) -> None:
    check_image("A conv layer", x[1:])
    if len(w) != 4 or w[2] != x[-1]:
        raise ModelError(
            f"A conv layer with a kernel of shape {tuple(w)} got images of shape {tuple(x)}.",
            hint="A kernel is (height, width, C_in, C_out), images are (B, H, W, C), and C must be C_in.",
        )


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
    dilation: int | tuple[int, int] = 1,
    forms: ConvForms = AUTO,
) -> Layer:
    """Two-dimensional convolution of ``(B, H, W, C)`` images, then an elementwise activation.

    Args:
        channels: number of output channels, at least 1.
        kernel: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels.
        padding: ``"SAME"``, ``"VALID"`` or ((top, bottom), (left, right)). Of n pixels, ``"SAME"`` makes
            ceil(n / stride), others floor((n + padding - (kernel - 1) dilation - 1) / stride) + 1: what is left at the
            end is not seen.
        activation: name or elementwise callable.
        bias: whether to add one bias per channel.
        initializer: ``(key, shape, dtype) -> w``, as for `dense`.
        dilation: distance, or (down, right), between the pixels that the kernel sees; 1 for neighbors.
        forms: how it and its derivatives are computed; by default, as is fastest.

    Returns:
        A layer with params ``{"w": (height, width, C_in, channels), "b": (channels,)}``.

    Raises:
        ModelError: fewer than one channel, a kernel, stride or dilation below 1, or an invalid padding or form.

    Example:
        >>> params, _ = conv(4, 3).init(jax.random.key(0), (8, 8, 1))
        >>> params["w"].shape
        (3, 3, 1, 4)
    """
    channels = at_least_one(channels, "A conv layer needs at least 1 channel", "For example conv(16, 3).")
    kernel = pixels(kernel, "A conv layer needs a kernel", "For example conv(16, 3) or conv(16, (3, 5)).")
    stride = pixels(stride, "A conv layer needs a stride", "For example conv(16, 3, stride=2).")
    dilation = pixels(dilation, "A conv layer needs a dilation", "For example conv(16, 3, dilation=2).")
    if not isinstance(forms, ConvForms):
        raise ModelError(f"A conv layer has no forms {forms!r}.", hint='For example ConvForms(weights="xla").')
    init = ConvInit(channels, kernel, activation, bias, checked_initializer(initializer))
    linear, name = ConvLinear(stride, _padding(padding), dilation, forms), f"conv({channels}, {pixels_text(kernel)})"
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

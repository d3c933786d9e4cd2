"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from neurai_core.arrays import Elementwise, PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered.layer import Layer, linear_layer
from neurai_core.layered.weights import Initializer, at_least_one, checked_initializer, starting_weights, with_bias


def dense_linear(params: PyTree, x: jax.Array) -> jax.Array:
    """``x @ w + b``; x is ``(..., D_in)``."""
    y = x @ params["w"]
    return y + params["b"] if "b" in params else y


def dense_columns(params: PyTree, x: jax.Array) -> jax.Array:
    """`dense_linear` with the batch axis last: ``w' @ x + b``; x is ``(D_in, B)``."""
    y = params["w"].T @ x
    return y + params["b"][:, None] if "b" in params else y


@dataclass(frozen=True)
class DenseInit:
    """Normal weights of variance ``gain / D_in`` (gain 2 before a rectifier, else 1) or those given, zero biases."""

    width: int
    activation: str | Elementwise
    bias: bool
    initializer: Initializer | None = None

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Parameters ``{"w": (D_in, width), "b": (width,)}`` for examples of shape ``(..., D_in)``."""
        if len(input_shape) != 1:
            raise ModelError(
                f"A dense layer takes examples of shape (D,), got {input_shape}.",
                hint="Put flatten() before it.",
            )
        fan_in = input_shape[-1]
        w = starting_weights(key, (fan_in, self.width), fan_in, self.activation, self.initializer)
        return with_bias(w, self.bias), ()


def dense(
    width: int,
    activation: str | Elementwise = "identity",
    bias: bool = True,
    initializer: Initializer | None = None,
) -> Layer:
    """Fully connected layer ``activation(x @ w + b)``.

    Args:
        width: number of outputs, at least 1.
        activation: name or elementwise callable.
        bias: whether to add ``b``.
        initializer: ``(key, shape, dtype) -> w``, such as ``jax.nn.initializers.orthogonal()``; normal weights of
            variance ``2 / D_in`` before a rectifier and ``1 / D_in`` elsewhere by default.

    Returns:
        A layer with params ``{"w": (D_in, width), "b": (width,)}``.

    Raises:
        ModelError: width below 1.

    Example:
        >>> dense(10, activation="relu").name
        'dense(10)'
    """
    width = at_least_one(width, "A dense layer needs a width of at least 1", "For example dense(128).")
    init = DenseInit(width, activation, bias, checked_initializer(initializer))
    return linear_layer(init, dense_linear, activation, f"dense({width})")

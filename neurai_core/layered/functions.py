"""Functions as layers: an activation, flattening, and any callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from neurai_core.arrays import Elementwise, PyTree, Shape
from neurai_core.layered.layer import Layer, Stateless, linear_layer, no_params


def elementwise(activation: str | Elementwise) -> Layer:
    """An activation as a separate layer without parameters, for networks that apply it first.

    Args:
        activation: name or elementwise callable.

    Example:
        >>> import jax.numpy as jnp
        >>> elementwise("relu").apply((), (), jnp.array([[-1.0, 2.0]]))[0].tolist()
        [[0.0, 2.0]]
    """
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")
    return linear_layer(no_params, unchanged, activation, name)


def unchanged(params: PyTree, x: jax.Array) -> jax.Array:
    """The linear half of `elementwise`."""
    return x


def flatten_linear(params: PyTree, x: jax.Array) -> jax.Array:
    """``(B, ...) -> (B, D)``."""
    return x.reshape(x.shape[0], -1)


def flatten() -> Layer:
    """Flatten all axes but the batch axis, ``(B, ...) -> (B, D)``.

    Example:
        >>> import jax.numpy as jnp
        >>> flatten().apply((), (), jnp.ones((2, 4, 4, 3)))[0].shape
        (2, 48)
    """
    return linear_layer(no_params, flatten_linear, "identity", "flatten")


@dataclass(frozen=True)
class FixedInit:
    """An ``init(key, input_shape) -> params`` as a layer's ``init``."""

    init: Callable[[jax.Array, Shape], PyTree]

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """The user's parameters and no model state."""
        return self.init(key, input_shape), ()


def function(fn: Callable[[PyTree, PyTree], PyTree], init: Callable[[jax.Array, Shape], PyTree] | None = None) -> Layer:
    """Any callable as a layer.

    Args:
        fn: ``(params, x) -> y``, batch axis first. A function of a module compares by identity, so define it once.
        init: ``(key, input_shape) -> params``; None for a layer without parameters (``params`` is then ``()``).

    Example:
        >>> import jax.numpy as jnp
        >>> centered = function(lambda params, x: x - x.mean(axis=-1, keepdims=True))
        >>> centered.apply((), (), jnp.array([[1.0, 3.0]]))[0].tolist()
        [[-1.0, 1.0]]
    """
    made = no_params if init is None else FixedInit(init)
    return Layer(made, Stateless(fn), name=getattr(fn, "__name__", type(fn).__name__))

"""Weights and biases that a layer starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Shape, default_float, shape_text, whole_number
from neurai_core.errors import ModelError
from neurai_core.layered.activations import RECTIFIERS

Initializer = Callable[[jax.Array, Shape, Any], jax.Array]


def starting_weights(
    key: jax.Array, shape: Shape, fan_in: int, activation: str | Elementwise, initializer: Initializer | None
) -> jax.Array:
    """Weights drawn by the initializer, or normal ones of variance ``gain / fan_in``, gain 2 before a rectifier.

    Raises:
        ModelError: there is no input, or the initializer does not give an array of this shape.

    >>> starting_weights(jax.random.key(0), (3, 2), 3, "relu", None).shape
    (3, 2)
    """
    if fan_in < 1:
        raise ModelError("an example has no entries.", hint="Check the shape of the data.")
    if initializer is not None:
        return _drawn(initializer, key, shape)
    gain = 2.0 if isinstance(activation, str) and activation in RECTIFIERS else 1.0
    return jax.random.normal(key, shape, default_float()) * math.sqrt(gain / fan_in)


def _drawn(initializer: Initializer, key: jax.Array, shape: Shape) -> jax.Array:
    drawn: Any = initializer(key, shape, default_float())
    if getattr(drawn, "shape", None) != shape:
        what = shape_text(drawn) if hasattr(drawn, "shape") else f"a {type(drawn).__name__}"
        raise ModelError(
            f"The initializer gave {what}, expected an array of shape {shape}.",
            hint="For example jax.nn.initializers.orthogonal(), with parentheses: the call makes the initializer.",
        )
    return jnp.asarray(drawn, default_float())


def checked_initializer(initializer: Initializer | None) -> Initializer | None:
    """The initializer; ModelError if it is not callable."""
    if initializer is not None and not callable(initializer):
        raise ModelError(
            f"An initializer is a callable (key, shape, dtype) -> w, got {initializer!r}.",
            hint="For example jax.nn.initializers.orthogonal().",
        )
    return initializer


def at_least_one(given: Any, needs: str, hint: str) -> int:
    """A whole number of at least 1; ModelError otherwise, saying what the layer needs.

    >>> at_least_one(jnp.int32(5), "A dense layer needs a width of at least 1", "For example dense(128).")
    5
    """
    number = whole_number(given)
    if number is None or number < 1:
        raise ModelError(f"{needs}, got {given!r}.", hint=hint)
    return number


def with_bias(w: jax.Array, bias: bool) -> PyTree:
    """Parameters of a layer with these weights, and zero biases if it has any.

    >>> jax.tree.map(jnp.shape, with_bias(jnp.ones((3, 2)), True))
    {'b': (2,), 'w': (3, 2)}
    """
    return {"w": w, "b": jnp.zeros(w.shape[-1], w.dtype)} if bias else {"w": w}

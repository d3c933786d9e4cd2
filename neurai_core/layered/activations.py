"""Activations, elementwise functions by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise
from neurai_core.errors import UnknownName
from neurai_core.naming import canonical, did_you_mean


def identity(x: jax.Array) -> jax.Array:
    """The identity, the activation of a linear layer."""
    return x


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """``clip(x, 0, 1)``: the hard sigmoid of the equilibrium propagation literature."""
    return jnp.clip(x, 0.0, 1.0)


ACTIVATIONS: dict[str, Elementwise] = {
    "identity": identity,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": jnp.tanh,
}


RECTIFIERS = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"})


def activation_function(activation: str | Elementwise) -> Elementwise:
    """Return the elementwise function of a given name; a callable is returned unchanged.

    Raises:
        UnknownName: no activation has that name.

    >>> activation_function("tanh")(jnp.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if callable(activation):
        return activation
    found = {canonical(name): function for name, function in ACTIVATIONS.items()}.get(canonical(str(activation)))
    if found is None:
        raise UnknownName(
            f"No activation is named {activation!r}.{did_you_mean(str(activation), ACTIVATIONS)}",
            hint=f"Names: {', '.join(ACTIVATIONS)}; or pass an elementwise callable.",
        )
    return found

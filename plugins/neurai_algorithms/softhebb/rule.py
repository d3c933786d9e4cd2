"""SoftHebb as two matrix products per layer: total inputs, and the correlation of inputs with outputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.layerwise import layerwise
from neurai_algorithms.softhebb.spec import SoftHebbConfig
from neurai_core.arrays import PyTree
from neurai_core.rule import Rule


def build(config: SoftHebbConfig, **context: Any) -> Rule:
    """The rule "SoftHebb", which predicts the rectified total inputs of the last layer, (B, D).

    Args:
        config: its settings.
        **context: not used: no target enters.
    """

    def learn(own: PyTree, x: jax.Array) -> tuple[PyTree, jax.Array]:
        u = x @ own["w"] + own["b"]
        T = config.temperature / x.shape[1] ** 0.5
        y = jax.nn.softmax(u / T)
        grads = {"w": jnp.mean(y * u, axis=0) * own["w"] - x.T @ y / len(x), "b": jnp.zeros_like(own["b"])}
        return grads, _surprise(u, T)

    return layerwise("softhebb", learn, _rectified, scaled=standardized)


def _rectified(own: PyTree, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ own["w"] + own["b"])


def standardized(x: jax.Array) -> jax.Array:
    """Every row with mean 0 and length 1; a row of equal numbers becomes 0."""
    x = x - jnp.mean(x, axis=1, keepdims=True)
    square = jnp.sum(x**2, axis=1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def _surprise(u: jax.Array, temperature: float) -> jax.Array:
    """-log of the mixture's density, up to a constant: the units' mean exp(u / T), over the batch."""
    return jnp.log(u.shape[1]) - jnp.mean(jax.nn.logsumexp(u / temperature, axis=1))

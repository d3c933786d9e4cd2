"""Hebbian learning as three matrix products per layer: outputs, their correlations with inputs, and with each other.

With C = y^T y / B, all units forget at once: sum_j w_j C_jk over the units j that unit k makes room for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.hebbian.spec import HebbianConfig
from neurai_algorithms.layerwise import layerwise
from neurai_core.arrays import PyTree
from neurai_core.rule import Rule


def build(config: HebbianConfig, **context: Any) -> Rule:
    """The rule "Hebbian learning", which predicts the outputs of the last layer.

    Args:
        config: its settings.
        **context: not used: no target enters.
    """
    return layerwise("hebbian", partial(_learn, config.mode), lambda own, x: x @ own["w"] + own["b"])


def _learn(mode: str, own: PyTree, x: jax.Array) -> tuple[PyTree, jax.Array]:
    w, mean = own["w"], x.mean(axis=0)
    middle = mean @ w
    centered, y = x - mean, x @ w - middle  # the compiler finds x @ w again in the layer itself, and takes it once
    correlations = y.T @ y / len(x)
    forgotten = w @ _made_room_for(mode, correlations)
    grads = {"w": forgotten - centered.T @ y / len(x), "b": middle + own["b"]}
    return grads, _missed(mode, centered, w, correlations, forgotten)


def _made_room_for(mode: str, correlations: jax.Array) -> jax.Array:
    """The correlations of outputs j and k, (K, K), where unit k forgets what unit j explains."""
    if mode == "oja":
        return jnp.diag(jnp.diag(correlations))
    return jnp.triu(correlations) if mode == "sanger" else correlations


def _missed(mode: str, x: jax.Array, w: jax.Array, correlations: jax.Array, forgotten: jax.Array) -> jax.Array:
    """Mean squared error of the reconstruction of x by all units together; by each alone if each learns alone.

    |x - sum_k y_k w_k|^2 = |x|^2 - 2 |y|^2 + sum_jk y_j y_k w_j w_k, whose last part is in what is forgotten already,
    once for every pair of units with sanger: so it takes no further product.
    """
    squares = jnp.diag(correlations)  # mean y_k^2
    if mode == "oja":  # |x - y_k w_k|^2, without an array for every unit
        alone = jnp.vdot(x, x) / len(x) + jnp.mean(squares * (jnp.sum(w**2, axis=0) - 2))
        return alone / x.shape[1]
    pairs = jnp.vdot(w, forgotten)
    if mode == "sanger":
        pairs = 2 * pairs - jnp.vdot(squares, jnp.sum(w**2, axis=0))
    square = jnp.vdot(x, x) / len(x) - 2 * jnp.sum(squares) + pairs
    return jnp.maximum(square, 0) / x.shape[1]

"""Sign-symmetry on dense layers, as in Liao, Leibo and Poggio 2016, arXiv:1510.05067.

The feedback weights V have the signs of the weights W: V = sign(W) (uSF), or V = M sign(W) with random M that
are fixed (frSF) or new for every batch (brSF). Here V is also scaled by the mean size of W, and an example is a row.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW and db of every layer, from the outputs down."""
    if config.magnitude == "batch":
        raise NotImplementedError("magnitudes that are drawn for every batch")
    h, y = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        u = h @ own["w"] + own["b"]
        passed.append((h, u))
        h = layer.activation(u)

    M = state.own if config.magnitude == "fixed" else [1.0 for _ in params]
    error = jax.grad(loss)(h, y)
    grads = []
    for layer, own, m, (h, u) in reversed(list(zip(model.layers, params, M, passed, strict=True))):
        delta = error * jax.grad(lambda u, f=layer.activation: jnp.sum(f(u)))(u)
        grads.append({"w": h.T @ delta, "b": jnp.sum(delta, axis=0)})
        V = config.scale * jnp.mean(jnp.abs(own["w"])) * m * jnp.sign(own["w"])
        error = delta @ V.T
    return tuple(reversed(grads))

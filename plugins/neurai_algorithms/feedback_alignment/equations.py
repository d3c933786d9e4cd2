"""Feedback alignment on dense layers, as in Lillicrap et al. 2016, doi:10.1038/ncomms13276.

The paper sends the error back as B e where back-propagation sends W^T e, with a fixed random B. Here an example is a
row: h_l = f(u_l), u_l = h_{l-1} W_l + b_l, and delta_l = (delta_{l+1} B_{l+1}^T) f'(u_l).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW and db of every layer, from the outputs down; the state holds one B of the shape of every W."""
    h, y = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        u = h @ own["w"] + own["b"]
        passed.append((h, u))
        h = layer.activation(u)

    error = jax.grad(loss)(h, y)
    grads = []
    for layer, B, (h, u) in reversed(list(zip(model.layers, state.own, passed, strict=True))):
        delta = error * jax.grad(lambda u, f=layer.activation: jnp.sum(f(u)))(u)
        grads.append({"w": h.T @ delta, "b": jnp.sum(delta, axis=0)})
        error = delta @ B.T
    return tuple(reversed(grads))

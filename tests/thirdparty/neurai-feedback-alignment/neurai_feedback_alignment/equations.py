"""Feedback alignment on dense layers, as Lillicrap et al. 2016 write it, doi:10.1038/ncomms13276.

On the way back the fixed random B stands where back-propagation has the weights W of the layer above. One example is
one row: h_l = f(u_l), u_l = h_{l-1} W_l + b_l, and delta_l = (delta_{l+1} B_{l+1}^T) f'(u_l).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW of every layer, from the outputs down; ``state.own`` holds B in the structure of the parameters."""
    h, y = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        u = h @ own["w"] + own["b"]
        passed.append((h, u))
        h = layer.activation(u)

    back = jax.grad(loss)(h, y)  # e, before the slope of the outputs
    grads = []
    for layer, feedback, (h, u) in reversed(list(zip(model.layers, state.own, passed, strict=True))):
        delta = back * jax.grad(lambda u, f=layer.activation: jnp.sum(f(u)))(u)
        grads.append({"w": h.T @ delta, "b": jnp.sum(delta, axis=0)})
        back = delta @ feedback["w"].T
    return tuple(reversed(grads))

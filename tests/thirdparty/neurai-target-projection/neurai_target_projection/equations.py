"""Direct random target projection on dense layers, as Frenkel et al. 2021 write it, doi:10.3389/fnins.2021.629892.

Hidden layers learn from a fixed random projection of the one-hot target y*, in place of their error, and outputs
from the gradient of the loss. One example is one row: z_l = h_{l-1} W_l + b_l, h_l = f(z_l).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW of every layer; ``state.own`` holds one B (outputs, width) for each hidden layer, by number."""
    h, y = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        z = h @ own["w"] + own["b"]
        passed.append((h, z))
        h = layer.activation(z)

    target = jax.nn.one_hot(y, h.shape[1], dtype=h.dtype) if y.ndim == 1 else y
    errors = [-target @ B / len(h) for B in state.own.values()]  # the mean of a batch, in the direction of the target
    errors.append(jax.grad(loss)(h, y))
    grads = []
    for layer, error, (h, z) in zip(model.layers, errors, passed, strict=True):
        delta = error * jax.grad(lambda z, f=layer.activation: jnp.sum(f(z)))(z)
        grads.append({"w": h.T @ delta, "b": jnp.sum(delta, axis=0)})
    return tuple(grads)

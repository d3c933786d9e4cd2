"""Direct feedback alignment on dense layers, as in Nøkland 2016, arXiv:1609.01596.

The paper's letters: a_l is the input of the units of layer l, h_l = f(a_l) their output, e the error at the input of
the output units, and delta a_l = (B_l e) f'(a_l). Here an example is a row, and a_l = h_{l-1} W_l + b_l.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW and db of every layer; the state holds one B (outputs, width) for every hidden layer."""
    h, y = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        a = h @ own["w"] + own["b"]
        passed.append((h, a))
        h = layer.activation(a)

    e = jax.grad(lambda a: loss(model.layers[-1].activation(a), y))(a)
    grads = []
    for layer, B, (h, a) in zip(model.layers, state.own, passed, strict=False):
        delta = (e @ B) * jax.grad(lambda a, f=layer.activation: jnp.sum(f(a)))(a)
        grads.append({"w": h.T @ delta, "b": jnp.sum(delta, axis=0)})
    below, _ = passed[-1]
    return (*grads, {"w": below.T @ e, "b": jnp.sum(e, axis=0)})

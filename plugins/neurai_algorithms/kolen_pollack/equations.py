"""The rule of Kolen and Pollack on dense layers, as in Akrout et al. 2019, arXiv:1904.05391.

Errors travel back through B, which gets the transposed update of W: Delta W = -eta delta y^T - lambda W and
Delta B = -eta y delta^T - lambda B. The decay is the optimizer's. Here an example is a row, so W is (below, above), and
B is written with the same axes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dW and db of every layer, from the outputs down, and dB."""
    y, target = batch
    passed = []
    for layer, own in zip(model.plain.layers, params["forward"], strict=True):
        u = y @ own["w"] + own["b"]
        passed.append((y, u))
        y = layer.activation(u)

    error = jax.grad(loss)(y, target)
    grads = []
    for layer, B, (y, u) in reversed(list(zip(model.plain.layers, params["feedback"], passed, strict=True))):
        delta = error * jax.grad(lambda u, f=layer.activation: jnp.sum(f(u)))(u)
        grads.append({"w": y.T @ delta, "b": jnp.sum(delta, axis=0)})
        error = delta @ B.T
    forward = tuple(reversed(grads))
    return {"forward": forward, "feedback": tuple(own["w"] for own in forward)}

"""PEPITA, as in Dellaferrera and Kreiman 2022, algorithm 1, arXiv:2201.11665: a mean over the batch.

W_l has shape (units below, units) and examples are rows. F, of shape (outputs, inputs), is the rule's state. The error
e is the derivative of the loss of an example: h_L - target, where the paper has a softmax and a cross-entropy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """What the weights change by, times -1: two forward passes and no backward pass."""
    (x, target), F = batch, state.own
    B = len(x)
    h = forward(model, params, x)  # standard pass
    e = jax.grad(loss)(h[-1], target) * B
    h_err = forward(model, params, x + e @ F)  # modulated pass
    deltas = [h_l - err_l for h_l, err_l in zip(h[1:-1], h_err[1:-1], strict=True)] + [e]
    return tuple(
        {"w": below.T @ delta / B, "b": jnp.mean(delta, axis=0)}
        for below, delta in zip(h_err[:-1], deltas, strict=True)
    )


def forward(model, params, h):
    """h_0, h_1, ..., h_L."""
    passed = [h]
    for layer, own in zip(model.layers, params, strict=True):
        passed.append(layer.activation(passed[-1] @ own["w"] + own["b"]))
    return passed

"""SoftHebb: a soft winner-take-all layer that learns by Hebb's rule, Moraitis et al. 2022.

Unit k of a layer has the total input u_k = w_k . x, and the units compete by a softmax at temperature T:

    y_k = exp(u_k / T) / sum_l exp(u_l / T) .

If the units are the components of a mixture, equally likely a priori, y_k is the probability that k caused x. A unit
learns the inputs that it wins, and forgets in proportion to its own total input, which brings the length of w_k to 1:

    dw_k = y_k (x - u_k w_k) .

The paper assumes inputs of length 1. Those of every layer are given it here, after their mean is taken off, so that
images of one brightness differ. The setting ``temperature`` is T in units of 1/sqrt(D), for D inputs.

Here examples are rows, weights w have shape (inputs, units), and biases, the priors of the paper, are left as they are.
Changes are means over the batch, and a gradient is a change with its sign reversed.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """-dw of every layer; a layer sees the activities of the layer below."""
    x, _ = batch
    grads = []
    for layer, own in zip(model.layers, params, strict=True):
        w, b = own["w"], own["b"]
        x = x - x.mean(axis=1, keepdims=True)
        x = x / jnp.sqrt(jnp.sum(x**2, axis=1, keepdims=True))
        u = x @ w + b
        y = jnp.exp(u / (config.temperature / jnp.sqrt(x.shape[1])))
        y = y / y.sum(axis=1, keepdims=True)
        change = [(y[:, [k]] * (x - u[:, [k]] * w[:, k])).mean(axis=0) for k in range(w.shape[1])]
        grads.append({"w": -jnp.stack(change, axis=1), "b": jnp.zeros_like(b)})
        x = layer.activation(u)
    return tuple(grads)

"""Principal components by Hebbian learning: Oja 1982, Sanger 1989, and the subspace rule of Oja 1989.

A unit with output y = w . x grows its weights with the correlation of input and output, Hebb's rule, and forgets in
proportion to the square of its output, which keeps the length of w at 1:

    dw = y (x - y w)                                         Oja 1982: w -> the first principal component

With units k = 1, ..., K, each forgets what others explain already. Sanger's generalized Hebbian algorithm orders the
units, and w_k -> component k; in the subspace rule all units share, and span the first K components.

    dw_k = y_k (x - sum_{j <= k} y_j w_j)                    Sanger 1989
    dw_k = y_k (x - sum_j y_j w_j)                           Oja 1989

Here examples are rows, weights w have shape (inputs, units), and inputs have the mean of the batch taken off, which
the papers assume to be 0. The bias moves the mean of the outputs to 0. Changes are means over the batch, and a
gradient is a change with its sign reversed.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """-dw of every layer; a layer sees the activities of the layer below."""
    x, _ = batch
    grads = []
    for layer, own in zip(model.layers, params, strict=True):
        grads.append(
            {"w": -change(config.mode, own["w"], x - x.mean(axis=0)), "b": (x @ own["w"] + own["b"]).mean(axis=0)}
        )
        x = layer.activation(x @ own["w"] + own["b"])
    return tuple(grads)


def change(mode: Any, w: Any, x: Any) -> Any:
    """dw, unit by unit."""
    y = x @ w
    units = range(w.shape[1])
    explained = {"oja": lambda k: [k], "sanger": lambda k: range(k + 1), "subspace": lambda k: units}[mode]
    rest = [x - sum(y[:, [j]] * w[:, j] for j in explained(k)) for k in units]
    return jnp.stack([(y[:, [k]] * rest[k]).mean(axis=0) for k in units], axis=1)

"""Back-propagation on dense layers, as in Rumelhart, Hinton and Williams 1986; equation numbers are theirs.

The notation is theirs: y is the output of a unit, x its total input, w_ji the weight from unit i to unit j, E the error
and d the desired outputs. Here w has shape (units below, units), every example is a row, and any activation works;
theirs is the logistic function. doi:10.1038/323533a0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dE/dw of every layer, layer by layer from the outputs down."""
    y, d = batch
    passed = []
    for layer, own in zip(model.layers, params, strict=True):
        x = y @ own["w"] + own["b"]  # (1), the bias as the weight of a unit that is always 1
        passed.append((y, x))
        y = layer.activation(x)  # (2)

    dE_dy = jax.grad(loss)(y, d)  # (4), which is y - d for the squared error (3)
    grads = []
    for layer, own, (below, x) in reversed(list(zip(model.layers, params, passed, strict=True))):
        dE_dx = dE_dy * slope(layer.activation, x)  # (5)
        grads.append({"w": below.T @ dE_dx, "b": jnp.sum(dE_dx, axis=0)})  # (6), summed over examples
        dE_dy = dE_dx @ own["w"].T  # (7)
    return tuple(reversed(grads))


def slope(f, x):
    """df/dx of every unit; y (1 - y) for the logistic function."""
    return jax.grad(lambda x: jnp.sum(f(x)))(x)

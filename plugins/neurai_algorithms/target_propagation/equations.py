"""Difference target propagation on dense layers, as in Lee et al. 2015, arXiv:1412.7525.

Layer i computes h_i = f_i(h_{i-1}), its inverse g_i guesses h_{i-1} from h_i, and targets hhat travel down:

    hhat_M = h_M - etahat dL/dh_M            hhat_{i-1} = h_{i-1} + g_i(hhat_i) - g_i(h_i)
    L_i = |f_i(h_{i-1}) - hhat_i|^2          Linv_i = |g_i(f_i(h_{i-1} + eps)) - (h_{i-1} + eps)|^2

Here an example is a row, L_i is divided by 2 etahat, so that the last layer learns by its gradient, g_i ends with the
activation of layer i - 1, and all are means over the batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The gradients of L_i by the weights of f_i, and of Linv_i by those of g_i."""
    (x, y), layers = batch, model.plain.layers

    def f(i, theta, h):
        return layers[i].activation(h @ theta["w"] + theta["b"])

    def g(i, omega, h):
        return layers[i - 1].activation(h @ omega["w"] + omega["b"])

    h = [x]
    for i, theta in enumerate(params["forward"]):
        h.append(f(i, theta, h[-1]))

    etahat = config.step
    hhat = [h[-1] - etahat * len(x) * jax.grad(loss)(h[-1], y)]  # the loss is a mean, and the step of an example
    for i in range(len(layers) - 1, 0, -1):
        omega = params["feedback"][i - 1]
        hhat.insert(0, h[i] + g(i, omega, hhat[0]) - g(i, omega, h[i + 1]))

    def L(theta, i):
        return jnp.sum((f(i, theta, h[i]) - hhat[i]) ** 2) / (2 * etahat * len(x))

    def Linv(omega, i, key):
        shaken = h[i] + config.noise * jax.random.normal(key, h[i].shape)
        again = g(i, omega, f(i, params["forward"][i], shaken))
        return jnp.sum((again - shaken) ** 2) / len(x)

    keys = jax.random.split(key, len(layers))
    forward = tuple(jax.grad(L)(theta, i) for i, theta in enumerate(params["forward"]))
    inverses = tuple(jax.grad(Linv)(omega, i, keys[i]) for i, omega in enumerate(params["feedback"], start=1))
    return {"forward": forward, "feedback": inverses}

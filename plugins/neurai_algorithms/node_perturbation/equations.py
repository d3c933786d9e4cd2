"""Node perturbation of all layers at once, as in Werfel, Xie and Seung 2005, doi:10.1162/089976605774320539.

    dE/du_l ~ (E(u + sigma xi) - E(u)) xi_l / sigma ,    xi ~ N(0, 1)    of every example on its own
    dE/dW_l = h_{l-1}^T dE/du_l

u_l = h_{l-1} W_l + b_l are the inputs of the nodes of layer l, all of which get noise; examples are rows. The paper has
one linear layer. With two-sided noise, the difference is (E(u + sigma xi) - E(u - sigma xi)) / 2. xi may also be
-1 and 1 with equal chances.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The mean of the estimates over as many xi as the settings say."""
    (x, y), sigma = batch, config.sigma

    def run(xi):
        h = [x]
        for layer, own, xi_l in zip(model.layers, params, xi, strict=True):
            h.append(layer.activation(h[-1] @ own["w"] + own["b"] + xi_l))
        return h

    def change(one, other):
        """Of E, where only one example has these outputs instead of those."""
        h_L = run([0.0] * len(params))[-1]
        of_example = lambda b: loss(h_L.at[b].set(one[b]), y) - loss(h_L.at[b].set(other[b]), y)
        return jax.vmap(of_example)(jnp.arange(len(x)))

    def estimate(key):
        keys = jax.random.split(key, len(params))
        shapes = [(len(x), len(own["b"])) for own in params]
        xi = [numbers(k, shape, config.distribution).astype(x.dtype) for k, shape in zip(keys, shapes, strict=True)]
        h, up, down = (run([size * xi_l for xi_l in xi]) for size in (0, sigma, -sigma))
        E = change(up[-1], down[-1]) / 2 if config.two_sided else change(up[-1], h[-1])
        dE_du = [E[:, None] * xi_l / sigma for xi_l in xi]
        return tuple(
            {"w": below.T @ delta, "b": jnp.sum(delta, axis=0)} for below, delta in zip(h[:-1], dE_du, strict=True)
        )

    each = jax.vmap(estimate)(jax.random.split(jax.random.fold_in(key, 1), config.samples))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)


def numbers(key, shape, distribution):
    """Standard normal numbers, or -1 and 1: every bit of random words is one."""
    if distribution == "normal":
        return jax.random.normal(key, shape, jnp.float32)
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 32), 1))
    return jnp.where(words >> jnp.arange(32, dtype=jnp.uint32) & 1, 1.0, -1.0).reshape(-1)[:size].reshape(shape)

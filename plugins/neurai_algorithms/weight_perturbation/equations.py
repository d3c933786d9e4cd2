"""Weight perturbation of all weights at once, as in Werfel, Xie and Seung 2005, doi:10.1162/089976605774320539.

    dE/dW ~ (E(W + sigma psi) - E(W)) psi / sigma ,    psi ~ N(0, 1), or -1 and 1 with equal chances

The error is measured on the batch, and the estimate is a mean over perturbations psi. With two-sided perturbations, the
difference is (E(W + sigma psi) - E(W - sigma psi)) / 2, as in Spall 1992, doi:10.1109/9.119632, with numbers -1 and 1.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The mean of the estimates over as many psi as the settings say."""
    (x, y), sigma = batch, config.sigma
    E = lambda W: loss(model(W, x), y)
    at = lambda psi, size: E(jax.tree.map(lambda w, p: w + size * p, params, psi))

    def estimate(key):
        psi = perturbation(key, params, config.distribution)
        change = (at(psi, sigma) - at(psi, -sigma)) / 2 if config.two_sided else at(psi, sigma) - E(params)
        return jax.tree.map(lambda p: change * p / sigma, psi)

    each = jax.vmap(estimate)(jax.random.split(jax.random.fold_in(key, 1), config.samples))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)


def perturbation(key, W, distribution):
    """psi, in the form of the weights."""
    leaves, structure = jax.tree.flatten(W)
    keys = jax.random.split(key, len(leaves))
    drawn = [numbers(k, leaf.shape, distribution).astype(leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def numbers(key, shape, distribution):
    """Standard normal numbers, or -1 and 1: every bit of random words is one."""
    if distribution == "normal":
        return jax.random.normal(key, shape, jnp.float32)
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 32), 1))
    return jnp.where(words >> jnp.arange(32, dtype=jnp.uint32) & 1, 1.0, -1.0).reshape(-1)[:size].reshape(shape)

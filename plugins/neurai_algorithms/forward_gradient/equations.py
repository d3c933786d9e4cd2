"""Forward gradients, as in Baydin et al. 2022, arXiv:2202.08587: definition 1, as a mean over directions v.

    g(theta) = (grad f(theta) . v) v ,    v ~ N(0, I), or -1 and 1 with equal chances

The second is not in the paper, but all that it needs of v: independent numbers with mean 0 and variance 1. The paper
computes the product in parentheses by forward-mode differentiation, without the gradient; here it is spelled out.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The mean of g over as many v as the settings say."""
    x, y = batch
    gradient = jax.grad(lambda theta: loss(model(theta, x), y))(params)
    keys = jax.random.split(jax.random.fold_in(key, 1), config.samples)
    each = jax.vmap(lambda key: g(gradient, v(key, params, config.distribution)))(keys)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)


def g(gradient, v):
    """(grad f . v) v."""
    dot = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, v)))
    return jax.tree.map(lambda leaf: dot * leaf, v)


def v(key, params, distribution):
    """Independent numbers in the form of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [numbers(k, leaf.shape, distribution) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def numbers(key, shape, distribution):
    """Standard normal numbers, or -1 and 1: every bit of random words is one."""
    if distribution == "normal":
        return jax.random.normal(key, shape, jnp.float32)
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 32), 1))
    return jnp.where(words >> jnp.arange(32, dtype=jnp.uint32) & 1, 1.0, -1.0).reshape(-1)[:size].reshape(shape)

"""Train by a method of the class API, one compiled pass over the training data for all seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import optax


@cache
def adam(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with a rate that falls to 0 along a cosine; one object for all seeds."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def epochs(
    method: Any, model: Any, optimizer: Any, params: Any, x: jax.Array, y: jax.Array, size: int, count: int, seed: int
) -> Iterator[Any]:
    """The parameters after every epoch, in batches of ``size``, in an order that seed and epoch decide."""
    carry = params, optimizer.init(params)
    for number in range(count):
        order = np.random.default_rng([seed, number]).permutation(len(x))
        carry = _epoch(method, model, optimizer, carry, x, y, order[: len(x) // size * size].reshape(-1, size))
        yield carry[0]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _epoch(method: Any, model: Any, optimizer: Any, carry: Any, x: jax.Array, y: jax.Array, rows: jax.Array) -> Any:
    def step(carry: Any, rows: jax.Array) -> Any:
        params, opt_state = carry
        grads = method.get_grads(model, params, (x[rows], y[rows]))[0]
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(step, carry, rows)[0]

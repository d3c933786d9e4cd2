"""Gradient estimators of equilibrium propagation: nudges beta_k and weights w_k of their phases.

The estimate is sum_k Re(w_k dF/dtheta(u(beta_k))), mean over the batch, F = E + beta C, with sum_k w_k = 0 and
sum_k w_k beta_k = 1; an estimator's bias order is the first power of beta that the weights do not cancel.

    TWO_PHASE          (b, 0)                 1/b (1, -1)                      Scellier and Bengio 2017
    SYMMETRIC          (b, -b)                1/2b (1, -1)                     Laborieux et al. 2021
    RICHARDSON         (b/2, -b/2, b, -b)     4/3b (1, -1), 1/6b (-1, 1)       extrapolated SYMMETRIC
    HOLOMORPHIC        b e^{2 pi i k/N}       1/(N b) e^{-2 pi i k/N}          Laborieux and Zenke 2022
"""

from __future__ import annotations

import cmath
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.spec import CLAMPED, EPConfig, EPMode
from neurai_core.errors import UsageError


class Points(NamedTuple):
    """The nudged phases of an estimator.

    Attributes:
        betas: ``(K,)``; every phase starts at the free state.
        weights: ``(K,)``.
        free_weight: weight of the free state itself; None if it is not one of the points.
        clamped: whether the output is held at ``o - beta dC/do`` instead of being nudged.
    """

    betas: jax.Array
    weights: jax.Array
    free_weight: Any = None
    clamped: bool = False


def points(config: EPConfig, key: jax.Array | None) -> Points:
    """The nudges and weights of an estimator.

    Args:
        config: its mode, beta and number of points.
        key: PRNG key, for RANDOM_SIGN.

    Raises:
        UsageError: RANDOM_SIGN without a key.

    >>> found = points(EPConfig(mode=EPMode.SYMMETRIC, beta=0.5), None)
    >>> found.betas.tolist(), found.weights.tolist()
    ([0.5, -0.5], [1.0, -1.0])
    """
    b = jnp.asarray(config.beta)
    if config.mode == EPMode.HOLOMORPHIC and config.n_points > 1:
        return _circle(b, config.n_points)
    clamped = config.mode in CLAMPED
    if config.mode in (EPMode.SYMMETRIC, EPMode.COUPLED):
        return Points(jnp.stack([b, -b]), jnp.stack([0.5 / b, -0.5 / b]), clamped=clamped)
    if config.mode in (EPMode.TWO_PHASE_MATCHED, EPMode.COUPLED_ONE_SIDED):
        return Points(jnp.stack([b, 0 * b]), jnp.stack([1 / b, -1 / b]), clamped=clamped)
    if config.mode == EPMode.RICHARDSON:
        weights = jnp.array([4 / 3, -4 / 3, -1 / 6, 1 / 6]) / b
        return Points(jnp.stack([b / 2, -b / 2, b, -b]), weights)
    if config.mode == EPMode.CONTRASTIVE:
        return Points(jnp.array([1.0, 0.0]), jnp.array([1.0, -1.0]), clamped=clamped)
    if config.mode == EPMode.RANDOM_SIGN:
        b = b * jax.random.rademacher(needed(key, "mode random_sign draws a sign"), (), b.dtype)
    return Points(b[None], 1 / b[None], free_weight=-1 / b)


def _circle(b: jax.Array, n: int) -> Points:
    """Half of the circle: a point and its conjugate have conjugate activities, so one represents both."""
    angles = [cmath.exp(2j * math.pi * k / n) for k in range(n // 2 + 1)]
    shares = [1 if k in (0, n / 2) else 2 for k in range(n // 2 + 1)]
    weights = [share / n / angle for share, angle in zip(shares, angles, strict=True)]
    return Points(jnp.array(angles) * b, jnp.array(weights) / b)


def needed(key: jax.Array | None, why: str) -> jax.Array:
    """The key; UsageError saying why it is needed when there is none."""
    if key is None:
        raise UsageError(f"EP: {why} and got no key.", hint="Pass one: get_grads(..., key=jax.random.key(0)).")
    return key

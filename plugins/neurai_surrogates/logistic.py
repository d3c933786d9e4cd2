"""The logistic density, used by several shapes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def logistic_density(x: Any) -> Any:
    """s(x) s(-x) at the cost of one exponential, accurate to the last digit even far from 0.

    There s (1 - s) loses every digit, and exp(-x) / (1 + exp(-x))^2 is NaN on one side.
    """
    e = jnp.exp(-jnp.abs(x))
    r = 1 / (1 + e)
    return e * r * r

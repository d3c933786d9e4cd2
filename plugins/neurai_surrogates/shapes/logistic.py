"""The logistic density, which several shapes are made of."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def logistic_density(x: Any) -> Any:
    """s(x) s(-x): at the cost of one exponential, to the last digit also far out.

    There s (1 - s) loses every digit, and exp(-x) / (1 + exp(-x))^2 is NaN on one side.
    """
    e = jnp.exp(-jnp.abs(x))
    r = 1 / (1 + e)
    return e * r * r

"""Polynomial: a triangle around the threshold.

The factor sign(2/sqrt(a) - |u|) printed in the paper makes it grow without bound outside the triangle; the printed
primitive has slope 0 there, and so does this one.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.polynomial.spec import polynomial


class Polynomial(Surrogate):
    r"""Polynomial: a triangle around the threshold, h2 of Wu et al..

    Args:
        alpha: squared inverse of the half width 1/sqrt(alpha); zero beyond 2/sqrt(alpha), peak sqrt(alpha)/2.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: alpha is not positive and finite.

    Example:
        >>> import jax
        >>> polynomial = Polynomial(alpha=1.0)
        >>> [jax.grad(polynomial)(u).item() for u in (0.0, 1.0, 3.0)]
        [0.5, 0.25, 0.0]
    """

    spec = polynomial.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): sqrt(alpha)/2 at the threshold, 0 from 2/sqrt(alpha) on."""
        slope = self.alpha**0.5 / 2
        return slope * jnp.maximum(1 - slope * jnp.abs(u), 0)

    def primitive(self, u: Any) -> Any:
        """P(u): two parabolas, from 0 to 1."""
        t = self.alpha**0.5 / 2 * u
        # The printed polynomial, in the distance to the triangle's end; abs(t) would have derivative 0 at 0.
        tail = jnp.maximum(1 - jnp.where(t < 0, -t, t), 0) ** 2 / 2
        return jnp.where(t < 0, tail, 1 - tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        end = 2 / self.alpha**0.5
        return Facts(peak=self.alpha**0.5 / 2, half_width=end / 2, support=(-end, end))

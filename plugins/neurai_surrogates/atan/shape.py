"""Atan: the density of the Cauchy distribution; the paper has alpha = 2."""

from __future__ import annotations

from math import pi
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.atan.spec import atan


class Atan(Surrogate):
    r"""Atan: the derivative of an arctangent.

    Args:
        alpha: twice the peak, per unit of u; half width 2/(pi alpha).
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> atan = Atan(alpha=2.0)
        >>> atan(0.5).item(), jax.grad(atan)(0.0).item()
        (1.0, 1.0)
    """

    spec = atan.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 2.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/2 at the threshold, with tails 1/u^2."""
        x = pi / 2 * self.alpha * u
        return self.alpha / 2 / (1 + x * x)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 1."""
        # The angle of (-x, 1), because 1/2 + arctan(x)/pi loses its digits in the lower tail.
        x = pi / 2 * self.alpha * u
        return jnp.arctan2(jnp.ones_like(x), -x) / pi

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.alpha / 2, half_width=2 / (pi * self.alpha))

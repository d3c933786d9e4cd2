"""Gaussian: the normal density, by its variance."""

from __future__ import annotations

from math import log, pi
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.gaussian.spec import gaussian


class Gaussian(Surrogate):
    r"""Gaussian: the normal density, h4 of Wu et al..

    Args:
        alpha: variance, in units of u squared; half width 1.177 sqrt(alpha), peak 0.399/sqrt(alpha).
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: alpha is not positive and finite.

    Example:
        >>> import jax
        >>> gaussian = Gaussian(alpha=1.0)
        >>> gaussian(0.5).item(), round(jax.grad(gaussian)(0.0).item(), 4)
        (1.0, 0.3989)
    """

    spec = gaussian.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): the normal density of variance alpha."""
        return jnp.exp(-0.5 * u * u / self.alpha) / (2 * pi * self.alpha) ** 0.5

    def primitive(self, u: Any) -> Any:
        """P(u): the normal distribution function, from 0 to 1."""
        return 0.5 * jax.scipy.special.erfc(-u / (2 * self.alpha) ** 0.5)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=(2 * pi * self.alpha) ** -0.5, half_width=(2 * log(2) * self.alpha) ** 0.5)

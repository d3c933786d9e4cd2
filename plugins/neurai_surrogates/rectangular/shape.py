"""Rectangular: a window around the threshold."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.rectangular.spec import rectangular


class Rectangular(Surrogate):
    r"""Rectangular: a window around the threshold, h1 of Wu et al..

    Args:
        alpha: width of the window, in units of u; half width alpha/2, peak 1/alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: alpha is not positive and finite.

    Example:
        >>> import jax
        >>> rectangular = Rectangular(alpha=0.5)
        >>> [jax.grad(rectangular)(u).item() for u in (0.0, 0.2, 0.3)]
        [2.0, 2.0, 0.0]
    """

    spec = rectangular.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1/alpha inside the open window."""
        window = jnp.where(jnp.abs(u) < self.alpha / 2, 1 / self.alpha, 0.0)
        return jnp.where(jnp.isnan(u), u, window)

    def primitive(self, u: Any) -> Any:
        """P(u): a ramp from 0 to 1."""
        return jnp.clip(u / self.alpha + 0.5, 0, 1)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        end = self.alpha / 2
        return Facts(peak=1 / self.alpha, half_width=end, support=(-end, end))

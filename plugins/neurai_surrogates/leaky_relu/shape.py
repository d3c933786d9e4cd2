"""LeakyReLU: the derivative of a leaky rectifier."""

from __future__ import annotations

from math import inf
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.leaky_relu.spec import leakyrelu
from neurai_surrogates.ramp import ramp


class LeakyReLU(Surrogate):
    r"""LeakyReLU: two slopes, one on either side of the threshold.

    Args:
        slope: s, g from the threshold on.
        leak: c, g below the threshold.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> leaky = LeakyReLU(slope=1.0, leak=0.1)
        >>> leaky(0.5).item(), [round(jax.grad(leaky)(u).item(), 4) for u in (-1.0, 0.0, 1.0)]
        (1.0, [0.1, 1.0, 1.0])
    """

    spec = leakyrelu.neurai_spec()
    slope: Number
    leak: Number

    def __init__(self, slope: Number = 1.0, leak: Number = 0.1, *, spiking: bool = True) -> None:
        super().__init__(slope=slope, leak=leak, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): one of two slopes."""
        return jnp.where(jnp.isnan(u), u, jnp.where(u < 0, self.leak, self.slope))

    def primitive(self, u: Any) -> Any:
        """P(u): two ramps that meet in 0 at the threshold."""
        return jnp.where(u < 0, ramp(self.leak, u), self.slope * u)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(
            peak=jnp.maximum(self.slope, self.leak),
            half_width=inf,
            support=(jnp.where(jnp.asarray(self.leak) > 0, -inf, 0.0), inf),
        )

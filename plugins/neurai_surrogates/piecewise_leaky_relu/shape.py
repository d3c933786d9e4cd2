"""PiecewiseLeakyReLU: the derivative of a ramp that continues with a small slope on both sides."""

from __future__ import annotations

from math import inf
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.piecewise_leaky_relu.spec import piecewiseleakyrelu
from neurai_surrogates.ramp import ramp


class PiecewiseLeakyReLU(Surrogate):
    r"""PiecewiseLeakyReLU: a window on top of a small constant, so that no neuron is cut off from learning.

    For leak = 0 it is `Rectangular` of width 2 w.

    Args:
        width: w, half width of the steep part, in units of u.
        leak: c, g on both sides of the steep part.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> leaky = PiecewiseLeakyReLU(width=1.0, leak=0.125)
        >>> leaky(0.5).item(), [jax.grad(leaky)(u).item() for u in (0.0, 2.0)]
        (1.0, [0.5, 0.125])
    """

    spec = piecewiseleakyrelu.neurai_spec()
    width: Number
    leak: Number

    def __init__(self, width: Number = 1.0, leak: Number = 0.01, *, spiking: bool = True) -> None:
        super().__init__(width=width, leak=leak, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1/(2 width) around the threshold, else leak."""
        steep = jnp.where(jnp.abs(u) <= self.width, 1 / (2 * self.width), self.leak)
        return jnp.where(jnp.isnan(u), u, steep)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 1 over the steep part, with slope leak on both sides."""
        v = jnp.clip(u, -self.width, self.width)
        beyond = jnp.where(jnp.isinf(u), u, u - v)
        return v / (2 * self.width) + 0.5 + ramp(self.leak, beyond)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        steep, leaks = 1 / (2 * self.width), jnp.asarray(self.leak) > 0
        return Facts(
            peak=jnp.maximum(steep, self.leak),
            half_width=jnp.where(2 * self.leak < steep, self.width, inf),
            support=(jnp.where(leaks, -inf, -self.width), jnp.where(leaks, inf, self.width)),
        )

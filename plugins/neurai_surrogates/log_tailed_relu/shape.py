"""LogTailedReLU: the derivative of a rectifier that turns into a logarithm; the paper has width = 1."""

from __future__ import annotations

from math import inf
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.log_tailed_relu.spec import logtailedrelu
from neurai_surrogates.ramp import ramp


class LogTailedReLU(Surrogate):
    r"""LogTailedReLU: the derivative of a rectifier that turns into a logarithm.

    Args:
        width: w, where the tail begins, in units of u; half width 2 width.
        leak: c, g below the threshold.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> tailed = LogTailedReLU(width=1.0)
        >>> tailed(0.5).item(), [jax.grad(tailed)(u).item() for u in (-1.0, 0.5, 2.0)]
        (1.0, [0.0, 1.0, 0.5])
    """

    spec = logtailedrelu.neurai_spec()
    width: Number
    leak: Number

    def __init__(self, width: Number = 1.0, leak: Number = 0.0, *, spiking: bool = True) -> None:
        super().__init__(width=width, leak=leak, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 up to the width, with a tail 1/u; leak below the threshold."""
        return jnp.where(u < 0, self.leak, self.width / jnp.maximum(u, self.width))

    def primitive(self, u: Any) -> Any:
        """P(u): 0 at the threshold, unbounded above."""
        w = self.width
        tail = w * (jnp.log(jnp.maximum(u, w)) - jnp.log(w))
        return jnp.where(u < 0, ramp(self.leak, u), jnp.minimum(u, w) + tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        leak = jnp.asarray(self.leak)
        return Facts(
            peak=jnp.maximum(leak, 1.0),
            half_width=jnp.where(leak < 0.5, 2 * self.width, inf),
            support=(jnp.where(leak > 0, -inf, 0.0), inf),
        )

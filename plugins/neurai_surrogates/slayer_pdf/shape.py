"""SlayerPdf: the Laplace density times its scale.

This is how the authors' later code reads their paper: its alpha is scale/(2 tau), and its beta is 1/tau.
"""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.slayer_pdf.spec import slayerpdf


class SlayerPdf(Surrogate):
    r"""SlayerPdf: the spike escape density of SLAYER.

    The default tau is ten units of u, so with thresholds near 1 the derivative is nearly flat; the authors'
    code uses tau = 1.

    Args:
        scale: c, the area.
        tau: decay length, in units of u; half width 0.693 tau, peak scale/(2 tau).
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is not positive and finite.

    Example:
        >>> import jax
        >>> slayer = SlayerPdf(scale=1, tau=0.5)
        >>> slayer(0.5).item(), jax.grad(slayer)(0.0).item()
        (1.0, 1.0)
    """

    spec = slayerpdf.neurai_spec()
    scale: Number
    tau: Number

    def __init__(self, scale: Number = 1, tau: Number = 10.0, spiking: bool = True) -> None:
        super().__init__(scale=scale, tau=tau, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): scale/(2 tau) at the threshold."""
        return self.scale / (2 * self.tau) * jnp.exp(-jnp.abs(u) / self.tau)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to scale."""
        tail = jnp.exp(jnp.where(u < 0, u, -u) / self.tau) / 2  # not abs(u), whose derivative at 0 is 0
        return self.scale * jnp.where(u < 0, tail, 1 - tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.scale / (2 * self.tau), half_width=log(2) * self.tau)

"""SoftSign: the derivative of the fast sigmoid, as a density."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.soft_sign.spec import softsign


class SoftSign(Surrogate):
    r"""SoftSign: the shape of `SuperSpike` with area 1, so that a steeper one is higher.

    Args:
        alpha: slope of the fast sigmoid, per unit of u; half width 0.414/alpha, peak alpha/2.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> soft = SoftSign(alpha=2.0)
        >>> soft(0.5).item(), jax.grad(soft)(0.5).item()
        (1.0, 0.25)
    """

    spec = softsign.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 2.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/2 at the threshold, with tails 1/u^2."""
        r = 1 / (1 + self.alpha * jnp.abs(u))
        return self.alpha / 2 * r * r

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 1."""
        # Not abs(u), whose derivative at 0 is 0; and no u / (1 + alpha |u|), which is inf / inf far out.
        r = 1 / (1 + self.alpha * jnp.where(u < 0, -u, u))
        return jnp.where(u < 0, r, 2 - r) / 2

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.alpha / 2, half_width=(2**0.5 - 1) / self.alpha)

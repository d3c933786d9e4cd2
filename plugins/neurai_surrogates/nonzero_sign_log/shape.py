"""NonzeroSignLog: the derivative of a logarithm on either side of the threshold."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.nonzero_sign_log.spec import nonzerosignlog


class NonzeroSignLog(Surrogate):
    r"""NonzeroSignLog: peak 1 and tails 1/u, the heaviest of all surrogates here.

    Its area is infinite, so it cannot be normalized.

    Args:
        alpha: slope beside the peak, per unit of u; half width 1/alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> log = NonzeroSignLog(alpha=2.0)
        >>> log(0.5).item(), jax.grad(log)(0.5).item()
        (1.0, 0.5)
    """

    spec = nonzerosignlog.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, with tails 1/u."""
        return 1 / (1 + self.alpha * jnp.abs(u))

    def primitive(self, u: Any) -> Any:
        """P(u): 0 at the threshold, unbounded on both sides."""
        rise = jnp.log1p(self.alpha * jnp.where(u < 0, -u, u)) / self.alpha  # abs(u) would have derivative 0 at 0
        return jnp.where(u < 0, -rise, rise)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=1 / self.alpha)

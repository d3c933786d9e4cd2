"""SuperSpike: the derivative of the fast sigmoid; the steepness beta in the paper is alpha here."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.superspike.spec import superspike


class SuperSpike(Surrogate):
    r"""SuperSpike: the surrogate derivative of Zenke and Ganguli, of peak 1 regardless of its width.

    A steeper one has less area: it also passes on less gradient, unlike the density-shaped surrogates.

    Args:
        alpha: slope of the fast sigmoid, per unit of u; half width 0.414/alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: alpha is not positive and finite.

    Example:
        >>> import jax
        >>> spike = SuperSpike(alpha=10.0)
        >>> spike(0.5).item(), jax.grad(spike)(0.1).item()
        (1.0, 0.25)
    """

    spec = superspike.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, with tails 1/u^2."""
        r = 1 / (1 + self.alpha * jnp.abs(u))
        return r * r

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area."""
        # Not abs(u), whose derivative at 0 is 0; and no u / (1 + alpha |u|), which is inf / inf far out.
        r = 1 / (1 + self.alpha * jnp.where(u < 0, -u, u))
        return jnp.where(u < 0, r, 2 - r) / self.alpha

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=(2**0.5 - 1) / self.alpha)

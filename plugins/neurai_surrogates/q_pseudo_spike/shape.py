"""QPseudoSpike: a peak whose tails are chosen by their exponent, which is q in the paper and alpha here."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.q_pseudo_spike.spec import qpseudospike


class QPseudoSpike(Surrogate):
    r"""QPseudoSpike: peak 1, heavy tails for a small alpha, exponential ones for a large alpha.

    k = 2/(alpha - 1) as published, which makes the area 1; some libraries use k = 2/(alpha + 1), the convention
    ``plus``.

    Args:
        alpha: exponent of the tails, above 1.
        convention: which k, ``minus`` or ``plus``.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> peak = QPseudoSpike(alpha=2.0)
        >>> peak(0.5).item(), jax.grad(peak)(0.5).item()
        (1.0, 0.25)
        >>> QPseudoSpike(alpha=2.0, convention="plus").facts.area
        3.0
    """

    spec = qpseudospike.neurai_spec()
    alpha: Number
    convention: Literal["minus", "plus"]

    def __init__(
        self, alpha: Number = 2.0, convention: Literal["minus", "plus"] = "minus", *, spiking: bool = True
    ) -> None:
        super().__init__(alpha=alpha, convention=convention, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, with tails u^-alpha."""
        return jnp.exp(-self.alpha * jnp.log1p(self._k * jnp.abs(u)))  # a power takes several times as long

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area."""
        a = jnp.where(u < 0, -u, u)  # not abs(u), whose derivative at 0 is 0
        tail = jnp.exp((1 - self.alpha) * jnp.log1p(self._k * a))
        return jnp.where(u < 0, tail, 2 - tail) / (self._k * (self.alpha - 1))

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=(2 ** (1 / self.alpha) - 1) / self._k)

    @property
    def _k(self) -> Number:
        return 2 / (self.alpha - 1) if self.convention == "minus" else 2 / (self.alpha + 1)

"""Tanh: the derivative of a hyperbolic tangent, with peak 1."""

from __future__ import annotations

from math import acosh, sqrt
from typing import Any

import jax

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.logistic import logistic_density
from neurai_surrogates.tanh.spec import tanh


class Tanh(Surrogate):
    r"""Tanh: the shape of `Sigmoid` with peak 1 regardless of its width.

    A steeper one has less area: it also passes on less gradient.

    Args:
        alpha: slope of the hyperbolic tangent, per unit of u; half width 0.881/alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> tanh = Tanh(alpha=2.0)
        >>> tanh(0.5).item(), jax.grad(tanh)(0.0).item(), tanh.facts.area
        (1.0, 1.0, 1.0)
    """

    spec = tanh.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, with exponential tails."""
        return 4 * logistic_density(2 * self.alpha * u)  # 1 - tanh^2 loses every digit far out

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area."""
        return 2 / self.alpha * jax.nn.sigmoid(2 * self.alpha * u)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=acosh(sqrt(2)) / self.alpha)

"""Sigmoid: the logistic density; the width a in the paper is 1/alpha here."""

from __future__ import annotations

from typing import Any

import jax

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.logistic import logistic_density
from neurai_surrogates.sigmoid.spec import sigmoid


class Sigmoid(Surrogate):
    r"""Sigmoid: the derivative of the logistic function, h3 of Wu et al..

    Args:
        alpha: slope of the logistic function, per unit of u; half width 1.763/alpha, peak alpha/4.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: alpha is not positive and finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sigmoid = Sigmoid(alpha=4.0, spiking=True)
        >>> sigmoid(jnp.array([-1.0, 0.0, 1.0])).tolist(), jax.grad(sigmoid)(0.0).item()
        ([0.0, 1.0, 1.0], 1.0)
    """

    spec = sigmoid.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 4.0, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/4 at the threshold, with exponential tails."""
        return self.alpha * logistic_density(self.alpha * u)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 1."""
        return jax.nn.sigmoid(self.alpha * u)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.alpha / 4, half_width=_HALF / self.alpha)


_HALF = 1.762747174039086  # 2 acosh(sqrt(2)): where s(x) s(-x) = 1/8

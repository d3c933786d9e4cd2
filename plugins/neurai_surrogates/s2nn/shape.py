"""S2NN: the logistic density below the threshold, a hyperbola above."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.logistic import logistic_density
from neurai_surrogates.s2nn.spec import s2nn


class S2NN(Surrogate):
    r"""S2NN: gradients also reach neurons far above their threshold, as they do in a network without spikes.

    It is continuous at the threshold only for alpha = 4 beta.

    Args:
        alpha: slope of the logistic function below the threshold, per unit of u.
        beta: g at the threshold, per unit of u.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> s2nn = S2NN(alpha=4.0, beta=1.0)
        >>> s2nn(0.5).item(), [jax.grad(s2nn)(u).item() for u in (0.0, 1.0, 3.0)]
        (1.0, [1.0, 0.5, 0.25])
    """

    spec = s2nn.neurai_spec()
    alpha: Number
    beta: Number

    def __init__(self, alpha: Number = 4.0, beta: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, beta=beta, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/4 just below the threshold, beta at it."""
        below = self.alpha * logistic_density(self.alpha * u)
        return jnp.where(u < 0, below, self.beta / (jnp.maximum(u, 0) + 1))

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 through 1/2 at the threshold, unbounded above."""
        above = 0.5 + self.beta * jnp.log1p(jnp.where(u < 0, 0, u))  # jnp.maximum would halve the derivative at 0
        return jnp.where(u < 0, jax.nn.sigmoid(self.alpha * u), above)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        peak = jnp.maximum(self.alpha / 4, self.beta)
        below = jnp.arccosh(jnp.maximum(self.alpha / peak - 1, 1)) / self.alpha
        above = 2 * self.beta / peak - 1
        return Facts(peak=peak, half_width=jnp.maximum(below, above))

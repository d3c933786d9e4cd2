"""StochasticEscape: spikes drawn with the logistic probability.

This is escape noise, chapter 9 of the book. The surrogate derivative is the true derivative of the expected spike.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.logistic import logistic_density
from neurai_surrogates.stochastic_escape.spec import stochasticescape


class StochasticEscape(Surrogate):
    r"""StochasticEscape: random spikes, drawn with a key that every call needs.

    P is the probability of a spike: with ``spiking=False`` the forward pass is the expected spike, without a key.

    Args:
        alpha: slope of the logistic function, per unit of u; half width 1.763/alpha, peak alpha/4.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> escape, key = StochasticEscape(alpha=4.0), jax.random.key(0)
        >>> u = jax.numpy.full(1000, 0.25)
        >>> rate = escape(u, key=key).mean().item()
        >>> abs(rate - escape.primitive(0.25).item()) < 0.05
        True
        >>> jax.grad(lambda u: escape(u, key=key))(0.0).item()
        1.0
    """

    spec = stochasticescape.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 4.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    @property
    def needs_key(self) -> bool:
        """Spikes are drawn."""
        return True

    def step(self, u: Any, key: jax.Array | None) -> Any:
        """1 with probability P(u), else 0."""
        assert key is not None
        drawn = jax.random.uniform(key, u.shape, u.dtype) < jax.nn.sigmoid(self.alpha * u)
        return jnp.where(jnp.isnan(u), u, drawn)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/4 at the threshold, with exponential tails."""
        return self.alpha * logistic_density(self.alpha * u)

    def primitive(self, u: Any) -> Any:
        """P(u): the probability of a spike."""
        return jax.nn.sigmoid(self.alpha * u)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.alpha / 4, half_width=_HALF / self.alpha)


_HALF = 1.762747174039086  # 2 acosh(sqrt(2)): where s(x) s(-x) = 1/8

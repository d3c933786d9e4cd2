"""Erf: the normal density, by the slope of its error function.

Some sources print this primitive for the Gaussian; taken literally, its alpha is a slope, whereas that of
`Gaussian` is a variance. The two are one function for alpha = 1/sqrt(2 variance).
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.erf.spec import erf


class Erf(Surrogate):
    r"""Erf: the normal density, parametrized by the slope of its error function instead of its variance.

    Args:
        alpha: slope of the error function, per unit of u; half width 0.833/alpha, peak 0.564 alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> erf = Erf(alpha=1.0)
        >>> erf(0.5).item(), round(jax.grad(erf)(0.0).item(), 4)
        (1.0, 0.5642)
    """

    spec = erf.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): alpha/sqrt(pi) at the threshold."""
        x = self.alpha * u
        return self.alpha / sqrt(pi) * jnp.exp(-x * x)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 1."""
        return 0.5 * jax.scipy.special.erfc(-self.alpha * u)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.alpha / sqrt(pi), half_width=sqrt(log(2)) / self.alpha)

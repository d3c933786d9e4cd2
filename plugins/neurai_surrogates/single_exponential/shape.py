"""SingleExponential: exponential decay on both sides of the threshold.

The shape is that of the paper; the scale is the usual one of this name, without the factor 1/2 of a density.
"""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.single_exponential.spec import singleexponential


class SingleExponential(Surrogate):
    r"""SingleExponential: exponential decay on both sides of the threshold.

    Args:
        grad_width: w, decay length, in units of u (not of the threshold); half width 0.693 grad_width.
        grad_scale: c, half the area; peak grad_scale/grad_width.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is not positive and finite.

    Example:
        >>> import jax
        >>> exponential = SingleExponential(grad_width=0.5, grad_scale=1.0)
        >>> exponential(0.5).item(), jax.grad(exponential)(0.0).item()
        (1.0, 2.0)
    """

    spec = singleexponential.neurai_spec()
    grad_width: Number
    grad_scale: Number

    def __init__(self, grad_width: Number = 0.5, grad_scale: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(grad_width=grad_width, grad_scale=grad_scale, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): grad_scale/grad_width at the threshold."""
        return self.grad_scale / self.grad_width * jnp.exp(-jnp.abs(u) / self.grad_width)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to 2 grad_scale."""
        tail = jnp.exp(jnp.where(u < 0, u, -u) / self.grad_width)  # not abs(u), whose derivative at 0 is 0
        return self.grad_scale * jnp.where(u < 0, tail, 2 - tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.grad_scale / self.grad_width, half_width=log(2) * self.grad_width)

"""PeriodicExponential: exponential decay from the threshold and from every further period above it.

For neurons that fire several times in one step; in the paper, the period is the threshold.
"""

from __future__ import annotations

from math import inf, log
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.periodic_exponential.spec import periodicexponential


class PeriodicExponential(Surrogate):
    r"""PeriodicExponential: the surrogate of a neuron that fires once per threshold passed.

    k counts the peak nearest to u, 0 below the threshold. The area is infinite, so it cannot be normalized.

    Args:
        grad_width: w, decay length, in units of u; half width 0.693 grad_width.
        grad_scale: c, peak times period.
        period: T, distance between peaks, in units of u.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> comb = PeriodicExponential(grad_width=0.5, grad_scale=1.0, period=1.0)
        >>> comb(0.5).item(), [jax.grad(comb)(u).item() for u in (0.0, 1.0, 2.0)]
        (1.0, [1.0, 1.0, 1.0])
    """

    spec = periodicexponential.neurai_spec()
    grad_width: Number
    grad_scale: Number
    period: Number

    def __init__(
        self, grad_width: Number = 0.5, grad_scale: Number = 1.0, period: Number = 1.0, *, spiking: bool = True
    ) -> None:
        super().__init__(grad_width=grad_width, grad_scale=grad_scale, period=period, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): grad_scale/period at the threshold and at every period above it."""
        _, r = self._nearest(u)
        return self.grad_scale / self.period * jnp.exp(-jnp.abs(r) / self.grad_width)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0, unbounded above."""
        w = self.grad_width
        k, r = self._nearest(u)
        tail = jnp.exp(jnp.where(r < 0, r, -r) / w)  # not abs(r), whose derivative at 0 is 0
        passed = 2 * k * (1 - jnp.exp(-self.period / (2 * w)))
        return self.grad_scale * w / self.period * (passed + jnp.where(r < 0, tail, 2 - tail))

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        half = log(2) * self.grad_width
        return Facts(
            peak=self.grad_scale / self.period,
            half_width=jnp.where(2 * half < self.period, half, inf),  # otherwise the peaks above the threshold overlap
        )

    def _nearest(self, u: Any) -> tuple[Any, Any]:
        """The number of the nearest peak, and the distance from it."""
        k = jnp.floor(jnp.maximum(u / self.period, 0) + 0.5)
        return k, jnp.where(jnp.isposinf(u), 0, u - k * self.period)

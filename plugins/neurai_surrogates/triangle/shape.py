"""Triangle: of independent height and base.

Bellec et al. dampen it to 0.3; Esser et al. do not.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.triangle.spec import triangle


class Triangle(Surrogate):
    r"""Triangle: of height ``peak`` and half base ``width``.

    Args:
        width: w, half the base, in units of u; half width width/2.
        peak: p, height at the threshold, per unit of u.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> triangle = Triangle(width=1.0, peak=0.5)
        >>> triangle(0.5).item(), [jax.grad(triangle)(u).item() for u in (0.0, 0.5, 2.0)]
        (1.0, [0.5, 0.25, 0.0])
    """

    spec = triangle.neurai_spec()
    width: Number
    peak: Number

    def __init__(self, width: Number = 1.0, peak: Number = 0.3, *, spiking: bool = True) -> None:
        super().__init__(width=width, peak=peak, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): the height at the threshold, 0 from the width on."""
        return self.peak * jnp.maximum(1 - jnp.abs(u) / self.width, 0)

    def primitive(self, u: Any) -> Any:
        """P(u): two parabolas, from 0 to the area."""
        t = u / self.width
        # In the distance to the triangle's end; abs(t) would have derivative 0 at 0.
        tail = jnp.maximum(1 - jnp.where(t < 0, -t, t), 0) ** 2 / 2
        return self.peak * self.width * jnp.where(t < 0, tail, 1 - tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=self.peak, half_width=self.width / 2, support=(-self.width, self.width))

"""Circ: the derivative of u over its distance from a circle's center."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.circ.spec import circ


class Circ(Surrogate):
    r"""Circ: peak 1 regardless of its width, with tails lighter than those of `SuperSpike`.

    Args:
        alpha: radius, in units of u; half width 0.766 alpha.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> circ = Circ(alpha=0.5)
        >>> circ(0.5).item(), jax.grad(circ)(0.0).item(), circ.facts.area
        (1.0, 1.0, 1.0)
    """

    spec = circ.neurai_spec()
    alpha: Number

    def __init__(self, alpha: Number = 0.5, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, with tails 1/u^3."""
        x = u / self.alpha
        r = jax.lax.rsqrt(1 + x * x)
        return r * r * r

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area."""
        # By the distance from the nearer limit, 1 - a/sqrt(1 + a^2) with a = |x|, which is accurate far out:
        # 1/(s (s + a)) with s = sqrt(1 + a^2), and the same in 1/a where a^2 might overflow. No abs(x), whose
        # derivative at 0 is 0.
        x = u / self.alpha
        a = jnp.where(x < 0, -x, x)
        near, y = jnp.where(a > 1, 1, a), 1 / jnp.where(a > 1, a, 1)
        s, q = jnp.sqrt(1 + near * near), jnp.sqrt(1 + y * y)
        tail = jnp.where(a > 1, y * y / (q * (q + 1)), 1 / (s * (s + near)))
        return self.alpha * jnp.where(x < 0, tail, 2 - tail)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=(2 ** (2 / 3) - 1) ** 0.5 * self.alpha)

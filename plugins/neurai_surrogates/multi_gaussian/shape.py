"""MultiGaussian: a normal density with a wide one subtracted on either side of the threshold.

The code of its authors multiplies everything by 0.5; this one does not.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.multi_gaussian.spec import multigaussian


class MultiGaussian(Surrogate):
    r"""MultiGaussian: a central lobe and two negative side lobes.

    g is negative far from the threshold, so P is not monotone: with ``spiking=False`` the forward pass is not a
    squashing function.

    Args:
        lens: l, standard deviation of the central lobe and distance to the side lobes, in units of u.
        scale: s, standard deviation of a side lobe divided by that of the central one.
        hight: h, weight of one side lobe, below 1.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> lobes = MultiGaussian(lens=0.5, scale=6.0, hight=0.15)
        >>> lobes(0.5).item(), round(jax.grad(lobes)(0.0).item(), 4)
        (1.0, 0.8782)
    """

    spec = multigaussian.neurai_spec()
    lens: Number
    scale: Number
    hight: Number

    def __init__(self, lens: Number = 0.5, scale: Number = 6.0, hight: Number = 0.15, *, spiking: bool = True) -> None:
        super().__init__(lens=lens, scale=scale, hight=hight, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): positive near the threshold, negative far from it."""
        return _lobes(u, self.lens, self.scale, self.hight)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area, exceeding it in between."""
        l, s, h = self.lens, self.scale, self.hight
        return (1 + h) * _below(u / l) - h * _below((u - l) / (s * l)) - h * _below((u + l) / (s * l))

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        numbers = self.lens, self.scale, self.hight
        return Facts(
            peak=_lobes(jnp.zeros(()), *numbers),
            half_width=_half_width(*numbers),  # has no closed form
        )


def _lobes(u: jax.Array, l: Number, s: Number, h: Number) -> jax.Array:
    sides = _density((u - l) / (s * l)) + _density((u + l) / (s * l))
    return (1 + h) * _density(u / l) / l - h * sides / (s * l)


def _density(x: jax.Array) -> jax.Array:
    return jnp.exp(-0.5 * x * x) / sqrt(2 * pi)


def _below(x: jax.Array) -> jax.Array:
    return 0.5 * jax.scipy.special.erfc(-x / sqrt(2))


@jax.jit
def _half_width(l: Number, s: Number, h: Number) -> jax.Array:
    """By bisection: at 3 l the central lobe is gone, and g below half its peak for every s and h allowed."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        above = _lobes(middle, l, s, h) > half_peak
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    end = jnp.broadcast_to(3.0 * l, jnp.broadcast_shapes(*map(jnp.shape, (l, s, h))))
    half_peak = _lobes(jnp.zeros_like(end), l, s, h) / 2
    low: jax.Array = jax.lax.fori_loop(0, 60, halve, (jnp.zeros_like(end), end))[0]
    return low

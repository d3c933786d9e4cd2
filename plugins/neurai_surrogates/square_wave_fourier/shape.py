"""SquareWaveFourier: the first terms of the Fourier series of a square wave, a periodic step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import cos, pi
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.square_wave_fourier.spec import squarewavefourier


class SquareWaveFourier(Surrogate):
    r"""SquareWaveFourier: a periodic derivative that takes both signs.

    P approximates the step only for \|u\| < period/2 and has no limits: at infinity both take their mean, 1/2 and 0. g
    has no area, so it cannot be normalized.

    Args:
        period: period of the square wave, in units of u; g falls to 0 at period/(4 terms).
        terms: number of terms; peak 4 terms/period.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> wave = SquareWaveFourier(period=8.0, terms=2)
        >>> wave(0.5).item(), jax.grad(wave)(0.0).item()
        (1.0, 1.0)
    """

    spec = squarewavefourier.neurai_spec()
    period: Number
    terms: int

    def __init__(self, period: Number = 8.0, terms: int = 2, *, spiking: bool = True) -> None:
        super().__init__(period=period, terms=terms, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 4 terms/period at the threshold and at every multiple of the period."""
        c = _cosine(_within(u) / self.period)
        wave = sum(_harmonics(c, c, 2 * c * c - 1, self.terms))
        return jnp.where(jnp.isinf(u), 0, 4 / self.period * wave)

    def primitive(self, u: Any) -> Any:
        """P(u): 1/2 at the threshold, near 0 below it and near 1 above it, up to half a period away."""
        s = jnp.sin(2 * pi / self.period * _within(u))
        wave = sum(one / (2 * i + 1) for i, one in enumerate(_harmonics(-s, s, 1 - 2 * s * s, self.terms)))
        return 0.5 + jnp.where(jnp.isinf(u), 0, 2 / pi * wave)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=4 * self.terms / self.period, half_width=self.period * _half_angle(self.terms) / (2 * pi))


def _harmonics(before: Any, first: Any, double: Any, terms: int) -> Iterator[Any]:
    """f(x), f(3x), f(5x), ... of a cosine or sine f, from f(-x), f(x) and cos(2x): one evaluation instead of many."""
    now = first
    for _ in range(terms):
        yield now
        before, now = now, 2 * double * now - before  # f(a + 2x) = 2 cos(2x) f(a) - f(a - 2x)


def _cosine(turns: Any) -> Any:
    """cos(2 pi turns) = 1 - 2 sin(pi r)^2, r within half a turn, by the Taylor series of the sine.

    Exact to rounding in float64, and several times faster than XLA's cosine on a CPU, which calls a scalar function.
    """
    x = pi * (turns - jnp.round(turns))
    square, series = x * x, 1.0
    for k in range(22, 1, -2):
        series = 1 - square / (k * (k + 1)) * series
    return 1 - 2 * (x * series) ** 2


def _within(u: Any) -> Any:
    """A finite stand-in for infinity, whose sine would be NaN."""
    return jnp.where(jnp.isinf(u), 0, u)


@lru_cache
def _half_angle(terms: int) -> float:
    """Where the sum of cosines has fallen to half its value at 0, by bisection up to its first zero."""
    low, high = 0.0, pi / (2 * terms)
    for _ in range(60):
        middle = (low + high) / 2
        above = sum(cos(k * middle) for k in range(1, 2 * terms, 2)) > terms / 2
        low, high = (middle, high) if above else (low, middle)
    return low

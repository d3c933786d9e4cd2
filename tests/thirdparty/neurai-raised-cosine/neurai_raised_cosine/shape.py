"""The raised cosine: g(u) = (1 + cos(pi u / w)) / (2 w) for |u| <= w, else 0."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_raised_cosine import RaisedCosineConfig


class RaisedCosine(Surrogate):
    """One period of a raised cosine, of area 1.

    Args:
        width: w, half of the support.
        spiking: whether the forward pass is the step; otherwise it is the primitive.
    """

    config_class = RaisedCosineConfig
    width: Number

    def __init__(self, width: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(width=width, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u)."""
        return (1 + jnp.cos(jnp.pi * self._inside(u))) / (2 * self.width)

    def primitive(self, u: Any) -> Any:
        """P(u), from 0 to 1."""
        r = self._inside(u)
        return 0.5 + r / 2 + jnp.sin(jnp.pi * r) / (2 * jnp.pi)

    def _inside(self, u: Any) -> Any:
        return jnp.clip(u / self.width, -1, 1)

    @property
    def facts(self) -> Facts:
        """Peak 1/w, area 1."""
        return Facts(area=1.0, peak=1 / self.width, half_width=self.width / 2, symmetric=True, signed=False)

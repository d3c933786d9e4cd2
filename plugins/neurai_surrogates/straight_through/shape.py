"""StraightThrough: the gradient of the identity in place of that of the step."""

from __future__ import annotations

from math import inf
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Surrogate
from neurai_surrogates.straight_through.spec import straightthrough


class StraightThrough(Surrogate):
    r"""StraightThrough: nothing to choose, and no dependence on the distance from the threshold.

    Args:
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Example:
        >>> import jax
        >>> straight = StraightThrough()
        >>> straight(-0.5).item(), jax.grad(straight)(-0.5).item()
        (0.0, 1.0)
    """

    spec = straightthrough.neurai_spec()

    def __init__(self, *, spiking: bool = True) -> None:
        super().__init__(spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 everywhere."""
        return jnp.where(jnp.isnan(u), u, 1)

    def primitive(self, u: Any) -> Any:
        """P(u): u itself."""
        return u

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=inf)

"""OneSidedWindow: a window that is open above."""

from __future__ import annotations

from math import inf
from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.one_sided_window.spec import onesidedwindow


class OneSidedWindow(Surrogate):
    r"""OneSidedWindow: learning starts at a distance below the threshold and never stops above it.

    The primitive is a shifted rectifier.

    Args:
        window: w, distance below the threshold at which g starts, in units of u.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> window = OneSidedWindow(window=0.5)
        >>> window(-0.2).item(), [jax.grad(window)(u).item() for u in (-1.0, -0.2, 9.0)]
        (0.0, [0.0, 1.0, 1.0])
    """

    spec = onesidedwindow.neurai_spec()
    window: Number

    def __init__(self, window: Number = 0.5, *, spiking: bool = True) -> None:
        super().__init__(window=window, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 from the start of the window."""
        return jnp.where(jnp.isnan(u), u, jnp.where(u >= -self.window, 1, 0))

    def primitive(self, u: Any) -> Any:
        """P(u): a rectifier that begins at the start of the window."""
        return jnp.maximum(u + self.window, 0)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1.0, half_width=inf, support=(-self.window, inf))

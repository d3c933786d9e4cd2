"""SparseFastSigmoid: the derivative of the fast sigmoid inside a window.

Neurons far from their threshold pass nothing back, so that most of the backward pass can be skipped.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.sparse_fast_sigmoid.spec import sparsefastsigmoid


class SparseFastSigmoid(Surrogate):
    r"""SparseFastSigmoid: `SuperSpike` inside a window, zero outside.

    v is u clipped to the window.

    Args:
        alpha: slope of the fast sigmoid, per unit of u; half width 0.414/alpha, unless the window is narrower.
        window: B, distance from the threshold beyond which g is 0, in units of u.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax
        >>> sparse = SparseFastSigmoid(alpha=10.0, window=0.5)
        >>> sparse(0.5).item(), [jax.grad(sparse)(u).item() for u in (0.0, 0.1, 0.5)]
        (1.0, [1.0, 0.25, 0.0])
    """

    spec = sparsefastsigmoid.neurai_spec()
    alpha: Number
    window: Number

    def __init__(self, alpha: Number = 25.0, window: Number = 1.0, *, spiking: bool = True) -> None:
        super().__init__(alpha=alpha, window=window, spiking=spiking)

    def derivative(self, u: Any) -> Any:
        """g(u): 1 at the threshold, 0 outside the window."""
        r = 1 / (1 + self.alpha * jnp.abs(u))
        return jnp.where(jnp.abs(u) >= self.window, 0, r * r)

    def primitive(self, u: Any) -> Any:
        """P(u): from 0 to the area."""
        v = jnp.clip(u, -self.window, self.window)
        r = 1 / (1 + self.alpha * jnp.where(v < 0, -v, v))  # not abs(v), whose derivative at 0 is 0
        end = 1 / (1 + self.alpha * self.window)
        return (jnp.where(v < 0, r, 2 - r) - end) / self.alpha

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(
            peak=1.0,
            half_width=jnp.minimum((2**0.5 - 1) / self.alpha, self.window),
            support=(-self.window, self.window),
        )

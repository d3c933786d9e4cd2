"""MultiLevelCount: one spike for every level passed, up to a maximum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.surrogates import Facts, Number, Surrogate
from neurai_surrogates.multi_level_count.spec import multilevelcount


class MultiLevelCount(Surrogate):
    r"""MultiLevelCount: a staircase forward, a window over all of its steps backward.

    Forward, the k-th spike comes where u reaches (k - 1) spacing;
    with one level it is the step, and g that of `Rectangular`.

    Args:
        spacing: d, distance between levels, in units of u.
        levels: n, most spikes per step.
        spiking: whether the forward pass is the step; otherwise it is the primitive P.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> count = MultiLevelCount(spacing=1.0, levels=4)
        >>> u = jnp.array([-0.4, 0.0, 1.5, 9.0])
        >>> count(u).tolist(), jax.vmap(jax.grad(count))(u).tolist()
        ([0.0, 1.0, 2.0, 4.0], [1.0, 1.0, 1.0, 0.0])
        >>> count.spikes(u).dtype.name
        'uint8'
    """

    spec = multilevelcount.neurai_spec()
    spacing: Number
    levels: int

    def __init__(self, spacing: Number = 1.0, levels: int = 4, *, spiking: bool = True) -> None:
        super().__init__(spacing=spacing, levels=levels, spiking=spiking)

    def step(self, u: Any, key: jax.Array | None) -> Any:
        """How many levels u has reached."""
        return jnp.clip(jnp.floor(u / self.spacing) + 1, 0, self.levels)

    def spikes(self, u: Any, *, key: jax.Array | None = None) -> jax.Array:
        """The counts, one byte each, without a derivative."""
        return self.step(u, key).astype(jnp.uint8)

    def derivative(self, u: Any) -> Any:
        """g(u): 1/spacing from half a level below the threshold to half a level above the last."""
        low, high = self._ends
        return jnp.where(jnp.isnan(u), u, jnp.where((u > low) & (u < high), 1 / self.spacing, 0))

    def primitive(self, u: Any) -> Any:
        """P(u): a ramp through the middles of the steps."""
        return jnp.clip(u / self.spacing + 0.5, 0, self.levels)

    @property
    def facts(self) -> Facts:
        """Its facts at these settings."""
        return Facts(peak=1 / self.spacing, half_width=self._ends[1], support=self._ends, symmetric=self.levels == 1)

    @property
    def _ends(self) -> tuple[Number, Number]:
        return -self.spacing / 2, (self.levels - 0.5) * self.spacing

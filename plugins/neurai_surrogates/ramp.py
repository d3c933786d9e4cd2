"""A ramp, shared by the rectifiers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def ramp(slope: Any, u: Any) -> Any:
    """slope u, and 0 for slope 0 even if u is infinite."""
    return jnp.where(jnp.isinf(u) & (jnp.asarray(slope) == 0), 0, slope * u)

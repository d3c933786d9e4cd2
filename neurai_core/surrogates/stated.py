"""What the spec of a surrogate states as a Python expression in the settings, evaluated for their values."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, pi
from typing import Any

import jax.numpy as jnp

from neurai_core.errors import UsageError
from neurai_core.specs import SurrogateSpec

NAMES = {"sqrt": jnp.sqrt, "exp": jnp.exp, "log": jnp.log, "where": jnp.where, "pi": pi, "inf": inf}


def stated(spec: SurrogateSpec, field: str, settings: Mapping[str, Any], **more: Any) -> Any:
    """The value of an expression in a spec.

    Args:
        spec: the spec.
        field: the field that holds the expression, such as ``area``.
        settings: the settings by name; numbers may be arrays, also traced.
        **more: further names, such as u.

    Raises:
        UsageError: it is no Python expression in these names and in those of `NAMES`.

    >>> from neurai_core.specs import SurrogateSpec
    >>> stated(SurrogateSpec(name="tall", summary="A tall one", area="2 / alpha"), "area", {"alpha": 10.0})
    0.2
    """
    expression = getattr(spec, field)
    try:
        value = eval(expression, {**NAMES, **settings, **more})
    except Exception as error:
        setting = spec.width or next(iter(spec.config.model_fields), "width")
        example = {"area": f"2 * {setting}", "support": f"abs(u) <= {setting}"}.get(field, setting)
        raise UsageError(
            f"{field}={expression!r} of the spec is no Python expression in the settings and u: {error}.",
            f"Write {field} with the names of settings, such as {example!r}; where(condition, a, b) chooses.",
        ) from error
    return float(value) if type(value) is int else value

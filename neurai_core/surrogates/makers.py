"""Surrogates from functions, and from other surrogates."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from neurai_core.errors import UsageError
from neurai_core.surrogates.surrogate import Facts, Number, Surrogate


def custom(
    *,
    derivative: Callable[..., Any] | None = None,
    primitive: Callable[..., Any] | None = None,
    spiking: bool = True,
    facts: Facts | None = None,
    **numbers: Number,
) -> Surrogate:
    """Make a surrogate from one or two functions.

    Args:
        derivative: ``(u, **numbers) -> g``; None takes it from the primitive by automatic differentiation.
        primitive: ``(u, **numbers) -> P``; without it, ``spiking=False`` and learned parameters are not
            available.
        spiking: as in `Surrogate`.
        facts: known facts about it.
        **numbers: parameters of the functions, learnable.

    Raises:
        UsageError: neither function is given, or ``spiking=False`` without a primitive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> arctan = custom(primitive=lambda u, slope: jnp.arctan(slope * u), slope=2.0)
        >>> jax.grad(arctan)(0.0).item()
        2.0
    """
    if derivative is None and primitive is None:
        raise UsageError(
            "custom() got no function, expected a derivative, a primitive or both.",
            "For example custom(derivative=lambda u: jnp.exp(-jnp.abs(u))).",
        )
    return Custom(
        derivative_function=derivative,
        primitive_function=primitive,
        stated=facts or Facts(),
        spiking=spiking,
        **{name: _as_number(value) for name, value in numbers.items()},
    )


def normalized(surrogate: Surrogate) -> Surrogate:
    """The same shape with area 1, so that surrogates differ only in shape and width.

    Args:
        surrogate: a surrogate that states its area, or whose primitive has limits. Its parameters stay learnable.

    Raises:
        UsageError: its area is not known, or not positive and finite.

    Example:
        >>> import neurai_core as neurai
        >>> tall = neurai.surrogate("superspike", alpha=10.0)
        >>> tall.facts.area, normalized(tall).facts.area, normalized(tall).derivative(0.0).item()
        (0.2, 1.0, 5.0)
    """
    return Normalized(surrogate=surrogate, spiking=surrogate.spiking)


class Custom(Surrogate):
    """The surrogate made by `custom`, from functions of u and of its parameters."""

    derivative_function: Callable[..., Any] | None
    primitive_function: Callable[..., Any] | None
    stated: Facts

    def derivative(self, u: Any) -> Any:
        """The function given, or the slope of the primitive."""
        given = self.derivative_function
        return given(u, **self._numbers) if given else super().derivative(u)

    def primitive(self, u: Any) -> Any:
        """The function given."""
        given = self.primitive_function
        return given(u, **self._numbers) if given else super().primitive(u)

    @property
    def has_primitive(self) -> bool:
        """Whether a primitive was given."""
        return self.primitive_function is not None

    @property
    def facts(self) -> Facts:
        """The facts given."""
        return self.stated


class Normalized(Surrogate):
    """The surrogate made by `normalized`: a surrogate divided by its area."""

    surrogate: Surrogate

    def derivative(self, u: Any) -> Any:
        """The derivative over the area."""
        return self.surrogate.derivative(u) / _area(self.surrogate)

    def primitive(self, u: Any) -> Any:
        """The primitive over the area."""
        return self.surrogate.primitive(u) / _area(self.surrogate)

    @property
    def has_primitive(self) -> bool:
        """Whether the wrapped surrogate has a primitive."""
        return self.surrogate.has_primitive

    def step(self, u: Any, key: jax.Array | None) -> Any:
        """The step of the wrapped surrogate: spikes are not divided."""
        return self.surrogate.step(u, key)

    @property
    def needs_key(self) -> bool:
        """Whether the wrapped surrogate draws its spikes."""
        return self.surrogate.needs_key

    def spikes(self, u: ArrayLike, *, key: jax.Array | None = None) -> jax.Array:
        """As described by the wrapped surrogate."""
        return self.surrogate.spikes(u, key=key)

    @property
    def facts(self) -> Facts:
        """The facts of the wrapped surrogate, with area 1."""
        inner = self.surrogate.facts
        peak = None if inner.peak is None else inner.peak / _area(self.surrogate)
        return inner._replace(area=1.0, peak=peak)

    def _check(self) -> None:
        super()._check()
        area = _area(self.surrogate)
        if not isinstance(area, jax.core.Tracer) and not jnp.all((area > 0) & (area < inf)):
            raise UsageError(
                f"normalized() got {self.surrogate!r}, whose area is {area}; it must be positive and finite."
            )


def _area(surrogate: Surrogate) -> Number:
    area = surrogate.facts.area
    if area is not None:
        return area
    if not surrogate.has_primitive:
        raise UsageError(
            f"normalized() got {surrogate!r}, which neither states its area nor has a primitive.",
            "State it: custom(derivative=..., facts=Facts(area=...)), or the property facts of a class.",
        )
    low, high = surrogate.limits
    return high - low


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, int) else value

"""A surrogate under test, and the points and numbers that it is tried with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.by_name import surrogate
from neurai_core.errors import SettingsError, UsageError
from neurai_core.explain import takes_float
from neurai_core.specs import SurrogateSpec
from neurai_core.surrogates import Surrogate
from neurai_core.surrogates.stated import stated
from neurai_core.testing.checking import Broken, Skipped, Subject

POINTS = 128  # of a grid; always as many, so that JAX compiles an operation once for all surrogates
FACTORS = (0.6, 0.8, 1.25, 1.6)  # numbers other than the defaults are these times the defaults


@dataclass(frozen=True, eq=False)
class SurrogateSubject(Subject):
    """A surrogate with settings."""

    spec: SurrogateSpec

    def build(self, **more: Any) -> Surrogate:
        """The surrogate with its settings, and more of them."""
        return surrogate(self.name, **{**self.settings, **more})

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The settings that are floats, by name, with their values."""
        values = self.build().settings
        return {name: one for name, one in values.items() if takes_float(self.spec.config, name) and one is not None}

    @cached_property
    def changed(self) -> Surrogate:
        """One whose numbers are not its defaults, as far as their ranges allow that."""
        for factor in FACTORS:
            try:
                return self.build(**{name: factor * value for name, value in self.numbers.items()})
            except SettingsError:
                continue
        return self.build()

    @property
    def both(self) -> tuple[Surrogate, Surrogate]:
        """With its own numbers, and with changed ones."""
        return self.build(), self.changed

    def needs_primitive(self) -> None:
        """Skip a check of the primitive if there is none."""
        if not self.build().has_primitive:
            raise Skipped("it has no primitive")

    def stated(self, name: str, one: Surrogate, **more: Any) -> Any:
        """The value of an expression of the spec, such as ``area``, for the settings of a surrogate."""
        try:
            return np.asarray(stated(self.spec, name, _plain(one.settings), **more))[()]
        except UsageError as error:
            raise Broken(error.message.removesuffix("."), error.hint) from None


def in_float64(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let a check run in float64."""

    @wraps(run)
    def wide(subject: Any) -> Any:
        with jax.enable_x64(True):
            return run(subject)

    return wide


def fire(one: Surrogate, u: Any) -> jax.Array:
    """The forward pass; a surrogate that draws no spikes ignores the key."""
    return one(u, key=jax.random.key(7))


def total(one: Surrogate, u: Any) -> jax.Array:
    """The forward pass, every entry with a weight of its own, summed."""
    return jnp.vdot(fire(one, u), jnp.cos(jnp.arange(u.size, dtype=u.dtype)).reshape(u.shape))


def values(one: Surrogate, u: Any) -> np.ndarray:
    """``derivative(u)`` of any number of points in float64, evaluated in pieces of one size."""
    u = np.ravel(u).astype(np.float64)
    pieces = np.resize(u, (-(-u.size // POINTS), POINTS))  # filled up by repeating
    return np.concatenate([np.asarray(one.derivative(jnp.asarray(piece))) for piece in pieces])[: u.size]


def spread(one: Surrogate, spec: SurrogateSpec) -> float:
    """A distance over which g changes: where it first falls below half its peak; the width if it never does."""
    distance = np.exp2(np.arange(-64, 64) / 4)
    sides = np.maximum(values(one, distance), values(one, -distance))
    below = np.flatnonzero(sides < np.nanmax(sides) / 2)
    after = below[below > np.nanargmax(sides)] if below.size else below
    return float(distance[after[0]]) if after.size else float(_plain(one.settings).get(spec.width, 1.0))


def grid(one: Surrogate, spec: SurrogateSpec) -> jax.Array:
    """Points on both sides of the threshold, within three widths, none of them 0."""
    return jnp.asarray(np.linspace(-3.1, 3.3, POINTS) * spread(one, spec))


def with_threshold(u: jax.Array) -> jax.Array:
    """The points, with 0 instead of the first, so that their number stays the same."""
    return u.at[0].set(0.0)


def gap(ours: Any, theirs: Any, scale: float | None = None) -> float:
    """The largest difference relative to the largest value of the second, or to a scale; NaN if one is NaN.

    >>> gap(np.array([1.0, 2.0]), np.array([1.0, 4.0])), gap(np.zeros(2), np.zeros(2))
    (0.5, 0.0)
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    largest = float(np.max(np.abs(theirs), initial=0.0)) if scale is None else scale
    difference = float(np.max(np.abs(ours - theirs), initial=0.0))
    return difference / largest if largest else difference


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in settings.items()}

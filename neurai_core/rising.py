"""The warning that a relaxation went uphill, for eager calls of a rule and inside compiled programs.

Inside a program a host callback gives it, in a branch that is taken only if the energy rises. The callback is pure, and
its zero is subtracted from the rule's result: a callback with effects would disable JAX's fast dispatch.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import FrameType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from neurai_core.arrays import PyTree, Scalar
from neurai_core.errors import RisingEnergy
from neurai_core.explicit_axes import on_automatic_axes
from neurai_core.rule import Estimate

ENERGY_CHANGE = "energy_change"  # entry of aux in which rules that descend on an energy report its change
ROUNDING = 1000  # multiple of the float spacing near 1 + |loss| by which rounding alone may raise a change above 0
_UNWATCHED = ContextVar("unwatched", default=False)


class Place(NamedTuple):
    """The line of user code that a warning is about."""

    file: str
    line: int


@contextmanager
def unwatched() -> Iterator[None]:
    """Disable the warning about rising energy for rules called, or traced, inside a ``with`` block.

    A program that is traced inside has no host callback: it can be exported, and kept in JAX's persistent compilation
    cache. Check ``aux["energy_change"]`` yourself; it is above 0, or NaN, if the energy rose.

    Example:
        >>> import neurai_core as neurai
        >>> rule = neurai.algorithm("pc", loss="mse", eta=3.0, stable=False)
        >>> model = neurai.models.mlp((3, 4, 2))
        >>> params, _ = model.init(jax.random.key(0), (3,))
        >>> with neurai.unwatched():
        ...     found, _ = rule.estimate(model, params, (), (jnp.ones((5, 3)), jnp.zeros((5, 2))))
        >>> bool(found.aux["energy_change"] > 0)
        True
    """
    token = _UNWATCHED.set(True)
    try:
        yield
    finally:
        _UNWATCHED.reset(token)


def watched(found: Estimate) -> Estimate:
    """Make an estimate warn if its ``aux["energy_change"]`` `rises`.

    Rules that are built by name already do.

    Args:
        found: the result of a rule; returned with the same values. There is no warning if ``aux["energy_change"]`` is
            not a single real number, or inside ``jax.shard_map``, where callbacks are restricted.

    Warns:
        RisingEnergy: the energy rose. It refers to the line that called into NeurAI; in a compiled program, to the one
            that traced it. It is given before anything that depends on the estimate is ready.

    Example:
        >>> import warnings
        >>> found = Estimate((), 1.0, -1.0, {"energy_change": 0.5})
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     _ = watched(found)
        >>> seen[0].category.__name__, seen[0].message.change
        ('RisingEnergy', 0.5)
    """
    change = found.aux.get(ENERGY_CHANGE)
    if _UNWATCHED.get() or not _is_real_number(change):
        return found
    kept, change = _watching(jnp.asarray(change), found.loss, (found.grads, found.loss), _place())
    grads, loss = kept
    return found._replace(grads=grads, loss=loss, aux={**found.aux, ENERGY_CHANGE: change})


def watched_descent(change: Scalar, energy: Scalar, relaxed: PyTree) -> PyTree:
    """The result of a relaxation, with the warning of `watched` if its energy rose.

    Args:
        change: change of the energy from start to end.
        energy: energy at the start.
        relaxed: returned with the same values.

    >>> watched_descent(jnp.asarray(-1.0), jnp.asarray(2.0), "activities")
    'activities'
    """
    return relaxed if _UNWATCHED.get() else _watching(change, energy, relaxed, _place())[0]


def _watching(change: Scalar, size: Any, kept: PyTree, place: Place) -> tuple[PyTree, Scalar]:
    """``(kept, change)``, which warn if the change `rises`."""
    change = jax.lax.stop_gradient(change)
    rise = jnp.where(rises(change, jax.lax.stop_gradient(size)), change, 0)
    if not isinstance(rise, jax.core.Tracer):
        if not rise <= 0:
            _warn(float(rise), place)
        return kept, change
    if jax.sharding.get_abstract_mesh().manual_axes:
        return kept, change
    zero = on_automatic_axes(
        _watch(place), PartitionSpec(), rise.astype(jnp.float32)
    )  # callback threads do not inherit enable_x64
    kept, change = jax.tree.map(lambda leaf: _less(leaf, zero), (kept, change))
    return kept, change


def rises(change: Any, loss: Any) -> Any:
    """Whether a change of energy is NaN, or above 0 by more than rounding.

    Args:
        change: change of the energy.
        loss: loss of the same batches. A loss near 0 is a small difference of numbers near 1, so rounding is measured
            relative to 1 + |loss|.

    >>> bool(rises(1e-7, 0.3)), bool(rises(1e-3, 0.3)), bool(rises(-1.0, 0.3)), bool(rises(jnp.nan, 0.3))
    (False, True, False, True)
    """
    size = 1 + jnp.nan_to_num(jnp.abs(loss), posinf=0.0)
    return ~(change <= ROUNDING * jnp.finfo(jnp.result_type(change)).eps * size)


def _is_real_number(value: Any) -> bool:
    return value is not None and np.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.floating)


# ---------------------------------------------------------------------------- inside a program


@cache  # the same function for the same place, so that it is compiled once
def _watch(place: Place) -> Callable[[Scalar], Scalar]:
    """``rise -> 0``, which warns on the host unless the rise is 0."""

    def report(rise: jax.Array) -> np.ndarray:
        _warn(float(rise), place)
        return np.zeros_like(rise)

    @jax.custom_batching.custom_vmap
    def watch(rise: Scalar) -> Scalar:
        return jax.lax.cond(
            rise <= 0, jnp.zeros_like, lambda rise: jax.pure_callback(report, jax.typeof(rise), rise), rise
        )

    @watch.def_vmap
    def watch_many(size: int, batched: list[bool], rises: jax.Array) -> tuple[Scalar, bool]:
        return watch(jnp.max(rises)), False  # only the largest, so that one branch is taken; NaN counts as the largest

    return jax.jit(watch)


def _less(leaf: PyTree, zero: Scalar) -> PyTree:
    """The same values, bit for bit, made to depend on the callback, which would otherwise be optimized away."""
    if not isinstance(leaf, jax.Array) or leaf.weak_type or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    return leaf - zero.astype(leaf.dtype)


# ---------------------------------------------------------------------------- the warning

_INSIDE = ("neurai_core", "jax", "jaxlib", "contextlib", "functools")
_GIVEN: dict[str, dict[Any, Any]] = {}  # per file: the registry by which Python gives a warning once per line


def _warn(change: float, place: Place) -> None:
    registry = _GIVEN.setdefault(place.file, {})
    warnings.warn_explicit(RisingEnergy(change), None, place.file, place.line, registry=registry)


def _place() -> Place:
    """The innermost line outside NeurAI, JAX and the package that asks for an estimate to be watched."""
    caller = sys._getframe(2)
    inside = {*_INSIDE, _package(caller)}
    frame: FrameType | None = caller
    while frame is not None and _package(frame) in inside:
        frame = frame.f_back
    frame = frame or caller
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _package(frame: FrameType) -> str:
    return cast(str, frame.f_globals.get("__name__", "")).partition(".")[0]

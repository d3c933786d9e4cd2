"""The warning that a relaxation went uphill, from wherever a rule is called: eagerly, or inside a program.

Inside a program a host callback gives it, in a branch that is taken only where the energy rises. The callback is a
pure one, whose zero is taken off what the rule returns: one with an effect would cost every call JAX's fast dispatch.
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

from neurai_core.arrays import PyTree, Scalar
from neurai_core.errors import RisingEnergy
from neurai_core.rule import Estimate

ENERGY_CHANGE = "energy_change"  # in aux: what rules that descend on an energy report of a relaxation
ROUNDING = 1000  # how many times the spacing of numbers near 1 + |loss| a change may be above 0 by rounding alone
_UNWATCHED = ContextVar("unwatched", default=False)


class Place(NamedTuple):
    """The line of the user's that a warning is about."""

    file: str
    line: int


@contextmanager
def unwatched() -> Iterator[None]:
    """Let rules that are called, or traced, inside a ``with`` block not warn when the energy rises.

    A program that is traced inside holds no host callback: it can be exported, and be kept in JAX's persistent
    compilation cache. Look at ``aux["energy_change"]`` yourself; it is above 0, or NaN, where the energy rose.

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
    """An estimate that warns where its ``aux["energy_change"]`` `rises`.

    Rules that are built by name are watched already.

    Args:
        found: what a rule returned; handed on with the same numbers. Without an ``aux["energy_change"]`` that is one
            real number, and inside ``jax.shard_map``, where callbacks are restricted, nothing is watched.

    Warns:
        RisingEnergy: the energy rose. It is given for the line that called into NeurAI; in a compiled program, for
            the one that traced it, and before anything that depends on the estimate is ready.

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
    """What a relaxation returns, with the warning of `watched` where its energy rose.

    Args:
        change: of the energy, from the start to the end.
        energy: at the start.
        relaxed: handed on with the same numbers.

    >>> watched_descent(jnp.asarray(-1.0), jnp.asarray(2.0), "activities")
    'activities'
    """
    return relaxed if _UNWATCHED.get() else _watching(change, energy, relaxed, _place())[0]


def _watching(change: Scalar, size: Any, kept: PyTree, place: Place) -> tuple[PyTree, Scalar]:
    """``(kept, change)``, which warn where the change `rises`."""
    change = jax.lax.stop_gradient(change)
    rise = jnp.where(rises(change, jax.lax.stop_gradient(size)), change, 0)
    if not isinstance(rise, jax.core.Tracer):
        if not rise <= 0:
            _warn(float(rise), place)
        return kept, change
    if jax.sharding.get_abstract_mesh().manual_axes:
        return kept, change
    zero = _watch(place)(rise.astype(jnp.float32))  # threads of callbacks do not know of enable_x64
    kept, change = jax.tree.map(lambda leaf: _less(leaf, zero), (kept, change))
    return kept, change


def rises(change: Any, loss: Any) -> Any:
    """Whether a change of energy is NaN, or above 0 by more than rounding.

    Args:
        change: of the energy.
        loss: of the same batches. A loss near 0 is a small difference of numbers near 1, so rounding is measured on
            1 + |loss|.

    >>> bool(rises(1e-7, 0.3)), bool(rises(1e-3, 0.3)), bool(rises(-1.0, 0.3)), bool(rises(jnp.nan, 0.3))
    (False, True, False, True)
    """
    size = 1 + jnp.nan_to_num(jnp.abs(loss), posinf=0.0)
    return ~(change <= ROUNDING * jnp.finfo(jnp.result_type(change)).eps * size)


def _is_real_number(value: Any) -> bool:
    return value is not None and np.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.floating)


# ---------------------------------------------------------------------------- inside a program


@cache  # the same function for the same place, which is compiled once
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
        return watch(jnp.max(rises)), False  # the largest alone, so that one branch is taken; NaN is the largest

    return jax.jit(watch)


def _less(leaf: PyTree, zero: Scalar) -> PyTree:
    """The same numbers, to the bit, which depend on the callback: what nothing depends on is never called."""
    if not isinstance(leaf, jax.Array) or leaf.weak_type or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    return leaf - zero.astype(leaf.dtype)


# ---------------------------------------------------------------------------- the warning

_INSIDE = ("neurai_core", "jax", "jaxlib", "contextlib", "functools")
_GIVEN: dict[str, dict[Any, Any]] = {}  # per file: what Python keeps to give a warning once per line


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

"""Maxima and products over an axis or over windows, in a form that keeps the digits of small changes.

The change of a maximum m is the maximum of (a - m) + u, the distance of each entry from it plus the entry's change.
Running maxima and products carry pairs of a value and its change through an associative scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import distance, wide
from neurai_core.changes.choices import larger
from neurai_core.changes.rule import Changes, Rule, Values, bind
from neurai_core.programs import Equation

Pair = tuple[Any, Any]


def reduced(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The largest, or smallest, of (a - m) + u."""
    axes = equation.eqn.params["axes"]
    top = jnp.expand_dims(results[0], axes)
    return Partial(lambda below, changes: bind(equation, below + changes[0]), distance(values[0], top))


def reduced_product(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The last of the running products."""
    axes = equation.eqn.params["axes"]

    def change(a: Any, changes: Changes) -> list[Any]:
        def rolled(x: Any) -> Any:
            kept = [axis for axis in range(x.ndim) if axis not in axes]
            x = jnp.transpose(x, (*axes, *kept))
            return x.reshape(-1, *x.shape[len(axes) :])

        pairs = lax.associative_scan(_times, (rolled(a), rolled(changes[0])))
        return [pairs[1][-1]]

    return Partial(change, wide(values[0]))


def _times(left: Pair, right: Pair) -> Pair:
    (a, u), (b, v) = left, right
    return a * b, u * (b + v) + a * v


def _max(left: Pair, right: Pair) -> Pair:
    (a, u), (b, v) = left, right
    return jnp.maximum(a, b), larger(distance(a, b), u, v)


def _min(left: Pair, right: Pair) -> Pair:
    (a, u), (b, v) = left, right
    return jnp.minimum(a, b), -larger(distance(b, a), -u, -v)


def running(combine: Callable[[Pair, Pair], Pair]) -> Rule:
    """The rule of a running product or maximum."""

    def rule(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
        settings = equation.eqn.params

        def change(a: Any, changes: Changes) -> list[Any]:
            pair = (a, changes[0])
            return [lax.associative_scan(combine, pair, reverse=settings["reverse"], axis=settings["axis"])[1]]

        return Partial(change, wide(values[0]))

    return rule


def windows(sign: int) -> Rule:
    """The rule of the largest (1) or smallest (-1) entry of every window; the first of ties gets the derivative."""

    def rule(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
        settings = equation.eqn.params

        def change(below: Any, changes: Changes) -> list[Any]:
            entries = below + sign * _entries(changes[0], settings, 0)
            first = jnp.argmax(entries, 0)[None] == lax.broadcasted_iota("int32", entries.shape, 0)
            return [sign * jnp.sum(jnp.where(first, entries, 0), 0)]

        outside = -sign * jnp.inf
        return Partial(change, distance(sign * _entries(wide(values[0]), settings, outside), sign * wide(results[0])))

    return rule


def _entries(x: Any, settings: dict[str, Any], outside: float) -> Any:
    """The entries of every window, with the position in the window as a leading axis."""
    size, stride = settings["window_dimensions"], settings["window_strides"]
    plain = all(one == 1 for one in (*settings["base_dilation"], *settings["window_dilation"]))
    if plain and tuple(size) == tuple(stride) and not any(map(any, settings["padding"])):
        return _tiles(x, size)
    return _slid(x, settings, outside)


def _tiles(x: Any, size: Sequence[int]) -> Any:
    """Entries of adjacent windows, by splitting axes in two."""
    whole = [length // k for length, k in zip(x.shape, size, strict=True)]
    x = x[tuple(slice(n * k) for n, k in zip(whole, size, strict=True))]
    split = x.reshape([one for pair in zip(whole, size, strict=True) for one in pair])
    inside = range(1, split.ndim, 2)
    return jnp.moveaxis(split, inside, range(len(inside))).reshape(-1, *whole)


def _slid(x: Any, settings: dict[str, Any], outside: float) -> Any:
    """Entries of overlapping, dilated or padded windows: one slice per position in the window."""
    size, stride, dilation = (settings[f"window_{name}"] for name in ("dimensions", "strides", "dilation"))
    padding = [
        (low, high, base - 1) for (low, high), base in zip(settings["padding"], settings["base_dilation"], strict=True)
    ]
    x = lax.pad(x, jnp.asarray(outside, x.dtype), padding)
    counts = [
        (length - (k - 1) * d - 1) // s + 1 for length, k, d, s in zip(x.shape, size, dilation, stride, strict=True)
    ]
    return jnp.stack(
        [
            lax.slice(
                x,
                [i * d for i, d in zip(place, dilation, strict=True)],
                [i * d + (n - 1) * s + 1 for i, d, n, s in zip(place, dilation, counts, stride, strict=True)],
                stride,
            )
            for place in np.ndindex(*size)
        ]
    )


REDUCTIONS: dict[str, Rule] = {
    "reduce_max": reduced,
    "reduce_min": reduced,
    "reduce_prod": reduced_product,
    "cumprod": running(_times),
    "cummax": running(_max),
    "cummin": running(_min),
    "reduce_window_max": windows(1),
    "reduce_window_min": windows(-1),
}

r"""Exact differences of known functions of one number: f(a + u) - f(a) without subtracting two nearly equal numbers.

    exp        sign(u) max(e^a, e^b) (1 - e^-|u|)                       b = a + u
    log        log(1 + u / a)
    sqrt       u / (sqrt a + sqrt b)
    sin        2 cos(a + u/2) sin(u/2)
    tan        sin u / (cos a cos b)
    asin       the angle whose sine is b cos A - a cos B                sin A = a
    atan       the angle of (1 + a b, u)
    tanh       (1 - t^2) s / (1 + t s)                                  t = tanh a, s = tanh u
    sigmoid    half of tanh, of a/2 and u/2
    erf        |u| small: u times the mean of its slope from a to b (Gauss-Legendre); else from erfc of |a| and |b|

For large u, where a formula could overflow or would itself subtract nearly equal numbers, the plain difference is used,
which is then accurate. Functions without a formula whose slope is known use the mean of the slope: `by_slope`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from neurai_core.arrays import Elementwise
from neurai_core.changes.arithmetic import distance, wide
from neurai_core.changes.rule import Changes, Rule, Values, bind, derivative_of, exact
from neurai_core.programs import Equation

Array = Any
Difference = Callable[[Array, Any, Array], Array]
Keep = Callable[[Array, Array], Any]
LN2 = float(np.log(2))


def known(difference: Difference, keep: Keep = lambda a, y: ()) -> Rule:
    """The rule of a function with a formula.

    Args:
        difference: ``(a, kept, u) -> f(a + u) - f(a)``.
        keep: ``(a, f(a)) -> kept``, what depends on a alone.
    """
    difference = jax.jit(difference, inline=True)  # traced once per shape, no matter how often it is visited

    def change(values: Values, kept: Any, changes: Changes) -> list[Any]:
        return [difference(values[0], kept, changes[0])]

    def rule(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
        a = wide(values[0])
        return Partial(exact(derivative_of(partial(bind, equation)), change), (a,), keep(a, wide(results[0])))

    return rule


def _value(a: Array, y: Array) -> Array:
    """Keep f(a)."""
    return y


def _tiny(near: Array, u: Array) -> Array:
    """A change where it is small, and 0, which is safe in every formula, elsewhere."""
    return jnp.where(near, u, 0)


# ---------------------------------------------------------------------------- exponentials and logarithms


def _exp(a: Array, y: Array, u: Array) -> Array:
    return _grown(y, jnp.exp(a + u), u)


def _exp2(a: Array, y: Array, u: Array) -> Array:
    return _grown(y, jnp.exp2(a + u), LN2 * u)


def _grown(before: Array, after: Array, u: Array) -> Array:
    """after - before for after = before e^u."""
    shrunk = jnp.expm1(-jnp.abs(u))
    return jnp.where(u > 0, -after * shrunk, before * shrunk)


def _log1p_or_plain(x: Array, far: Array) -> Array:
    """log(1 + x), or the plain difference where x is far from 0."""
    near = jnp.abs(x) < 0.5
    return jnp.where(near, jnp.log1p(_tiny(near, x)), far)


def _log(a: Array, y: Array, u: Array) -> Array:
    return _log1p_or_plain(u / a, distance(jnp.log(a + u), y))


def _log2(a: Array, y: Array, u: Array) -> Array:
    return _log1p_or_plain(u / a, LN2 * distance(jnp.log2(a + u), y)) / LN2


def _log1p(a: Array, y: Array, u: Array) -> Array:
    return _log1p_or_plain(u / (1 + a), distance(jnp.log1p(a + u), y))


# ---------------------------------------------------------------------------- roots


def _over(above: Array, below: Array) -> Array:
    """A quotient, 0 where both are 0."""
    return above / jnp.where(below == 0, 1, below)


def _sqrt(a: Array, y: Array, u: Array) -> Array:
    return _over(u, jnp.sqrt(a + u) + y)


def _rsqrt(a: Array, y: Array, u: Array) -> Array:
    z = lax.rsqrt(a + u)
    return -u * y * z * (y * z / (y + z))


def _cbrt(a: Array, y: Array, u: Array) -> Array:
    z = jnp.cbrt(a + u)
    return _over(u, z * z + y * z + y * y)


# ---------------------------------------------------------------------------- circular and hyperbolic functions


def _sin(a: Array, _: Any, u: Array) -> Array:
    return 2 * jnp.cos(a + u / 2) * jnp.sin(u / 2)


def _cos(a: Array, _: Any, u: Array) -> Array:
    return -2 * jnp.sin(a + u / 2) * jnp.sin(u / 2)


def _tan(a: Array, _: Any, u: Array) -> Array:
    return jnp.sin(u) / (jnp.cos(a) * jnp.cos(a + u))


def _cosine(sine: Array, u: Array | float = 0.0) -> Array:
    return jnp.sqrt(((1 - sine) - u) * ((1 + sine) + u))


def _asin(a: Array, _: Any, u: Array) -> Array:
    b, before, after = a + u, _cosine(a), _cosine(a, u)
    sine = u * (before + _over(a * (a + b), before + after))
    return jnp.arctan2(sine, before * after + a * b)


def _acos(a: Array, _: Any, u: Array) -> Array:
    return -_asin(a, _, u)


def _atan(a: Array, _: Any, u: Array) -> Array:
    return jnp.arctan2(u, 1 + a * (a + u))


def _atanh(a: Array, y: Array, u: Array) -> Array:
    x = u / ((1 - a) * (1 + a) - a * u)
    near = jnp.abs(x) < 0.5
    return jnp.where(near, jnp.arctanh(_tiny(near, x)), distance(jnp.arctanh(a + u), y))


def _sinh(a: Array, y: Array, u: Array) -> Array:
    near = jnp.abs(u) < 1
    half = _tiny(near, u) / 2
    return jnp.where(near, 2 * jnp.cosh(a + half) * jnp.sinh(half), jnp.sinh(a + u) - y)


def _cosh(a: Array, y: Array, u: Array) -> Array:
    near = jnp.abs(u) < 1
    half = _tiny(near, u) / 2
    return jnp.where(near, 2 * jnp.sinh(a + half) * jnp.sinh(half), jnp.cosh(a + u) - y)


def angle(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """The angle by which a point (y, x) turns, plus or minus a full turn if it crosses the branch cut."""

    def change(values: Values, result: Any, changes: Changes) -> list[Any]:
        (y, x), (v, u) = values, (0 if change is None else change for change in changes)
        near = jnp.arctan2(v * x - u * y, x * (x + u) + y * (y + v))
        plain = bind(equation, y + v, x + u)[0] - result
        return [near + 2 * np.pi * jnp.round((plain - near) / (2 * np.pi))]

    derivative = derivative_of(partial(bind, equation))
    return Partial(exact(derivative, change), tuple(map(wide, values)), wide(results[0]))


# ---------------------------------------------------------------------------- tanh and sigmoid


def _tanh(a: Array, kept: tuple[Array, Array], u: Array) -> Array:
    y, slope = kept
    return _risen(y, slope, jnp.tanh(u), lambda: jnp.tanh(a + u) - y)


def _sigmoid(a: Array, kept: tuple[Array, Array], u: Array) -> Array:
    y, slope = kept
    return _risen(2 * y - 1, 2 * slope, jnp.tanh(u / 2), lambda: jax.nn.sigmoid(a + u) - y)


def _risen(t: Array, slope: Array, s: Array, far: Callable[[], Array]) -> Array:
    """slope s / (1 + t s). Where 1 + t s cancels, u leads back from far out, and the plain difference is accurate."""
    near = t * s > -0.5
    return jnp.where(near, slope * s / jnp.where(near, 1 + t * s, 1), far())


def _sigmoid_slope(a: Array) -> Array:
    """Accurate even where the sigmoid is near 1."""
    return jax.nn.sigmoid(a) * jax.nn.sigmoid(-a)


# ---------------------------------------------------------------------------- by the mean of the slope


def by_slope(function: Elementwise, radius: Elementwise, far: Difference | None = None, keep: Keep = _value) -> Rule:
    """The rule of a function known by its slope: u times the mean slope from a to a + u, by Gauss-Legendre.

    Args:
        function: the function.
        radius: a -> the largest |u| for it; an eighth of the function's length scale is enough.
        far: the difference for larger changes, the plain one if left out.
        keep: what ``far`` needs, f(a) for the plain one.
    """

    def plain(a: Array, y: Array, u: Array) -> Array:
        return function(a + u) - y

    beyond = plain if far is None else far

    def difference(a: Array, kept: Any, u: Array) -> Array:
        near = jnp.abs(u) < radius(a)
        return jnp.where(near, _mean_slope(function, a, _tiny(near, u)), beyond(a, kept, u))

    return known(difference, keep)


def _mean_slope(function: Elementwise, a: Array, u: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(4 if u.dtype.itemsize < 8 else 8)

    def slope(x: Array) -> Array:
        return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]

    terms = zip((nodes + 1) / 2, weights / 2, strict=True)
    return u * sum(float(weight) * slope(a + float(node) * u) for node, weight in terms)


def _erf_far(a: Array, rest: Array, u: Array) -> Array:
    """From erfc of absolute values, which is small where erf is near 1."""
    b = a + u
    left = lax.erfc(jnp.abs(b))
    same = jnp.where(a > 0, rest - left, left - rest)
    across = jnp.where(b > 0, 1 - left, left - 1) - jnp.where(a > 0, 1 - rest, rest - 1)
    return jnp.where((a > 0) == (b > 0), same, across)


def _erfc_far(a: Array, rest: Array, u: Array) -> Array:
    return -_erf_far(a, rest, u)


def _rest(a: Array, y: Array) -> Array:
    return lax.erfc(jnp.abs(a))


def _bell(a: Array) -> Array:
    """The length scale of e^(-a^2) at a."""
    return 0.5 / (1 + jnp.abs(a))


ELEMENTWISE: dict[str, Rule] = {
    "exp": known(_exp, _value),
    "exp2": known(_exp2, _value),
    "expm1": known(_exp, lambda a, y: jnp.exp(a)),
    "log": known(_log, _value),
    "log2": known(_log2, _value),
    "log1p": known(_log1p, _value),
    "sqrt": known(_sqrt, _value),
    "rsqrt": known(_rsqrt, _value),
    "cbrt": known(_cbrt, _value),
    "one_minus_square": known(lambda a, _, u: -u * (2 * a + u)),
    "sin": known(_sin),
    "cos": known(_cos),
    "tan": known(_tan),
    "asin": known(_asin),
    "acos": known(_acos),
    "atan": known(_atan),
    "atan2": angle,
    "sinh": known(_sinh, _value),
    "cosh": known(_cosh, _value),
    "atanh": known(_atanh, _value),
    "tanh": known(_tanh, lambda a, y: (y, 4 * _sigmoid_slope(2 * a))),
    "logistic": known(_sigmoid, lambda a, y: (y, _sigmoid_slope(a))),
    "erf": by_slope(lax.erf, _bell, _erf_far, _rest),
    "erfc": by_slope(lax.erfc, _bell, _erfc_far, _rest),
    "erf_inv": by_slope(lax.erf_inv, lambda a: (1 - jnp.abs(a)) / 8),
    "asinh": by_slope(lax.asinh, lambda a: (1 + jnp.abs(a)) / 8),
    "acosh": by_slope(lax.acosh, lambda a: (a - 1) / 8),
    "lgamma": by_slope(lax.lgamma, lambda a: a / 8),
    "digamma": by_slope(lax.digamma, lambda a: a / 8),
}

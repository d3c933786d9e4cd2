"""Every known function of one number against many digits: tiny changes, large ones, across kinks and in the tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changes_tools import change_of, pulled_back
from jax import lax

from neurai_core.changes.elementwise import ELEMENTWISE

mp = pytest.importorskip("mpmath")

CHANGES = (1e-30, 1e-14, 1e-8, 1e-4, 0.02, 0.2, 0.6, 1.3, 7.0)
LINE = (-30.0, -8.0, -3.3, -1.0, -0.5, -1e-3, 0.0, 1e-5, 0.3, 0.75, 1.0, 2.2, 5.0, 9.0, 20.0)
MIDDLE = tuple(x for x in LINE if abs(x) < 6)
POSITIVE = (1e-6, 1e-3, 0.1, 0.5, 1.0, 1.7, 6.0, 40.0, 1e4)
INSIDE = (-0.9999, -0.97, -0.5, -1e-4, 0.0, 0.2, 0.7, 0.99, 0.999)
EVERYWHERE = (-np.inf, np.inf)
ABOVE = (0.0, np.inf)

# name: function, the same with many digits, points, the ends of where it is defined
CASES = {
    "exp": (lax.exp, lambda x: mp.exp(x), LINE, EVERYWHERE),
    "exp2": (lax.exp2, lambda x: mp.mpf(2) ** x, LINE, EVERYWHERE),
    "expm1": (lax.expm1, lambda x: mp.expm1(x), LINE, EVERYWHERE),
    "log": (lax.log, lambda x: mp.log(x), POSITIVE, ABOVE),
    "log1p": (lax.log1p, lambda x: mp.log1p(x), (*POSITIVE, -0.9, -0.5, -1e-3), (-1.0, np.inf)),
    "sqrt": (lax.sqrt, lambda x: mp.sqrt(x), POSITIVE, ABOVE),
    "rsqrt": (lax.rsqrt, lambda x: 1 / mp.sqrt(x), POSITIVE, ABOVE),
    "cbrt": (lax.cbrt, lambda x: mp.cbrt(x), POSITIVE, ABOVE),
    "sin": (lax.sin, lambda x: mp.sin(x), LINE, EVERYWHERE),
    "cos": (lax.cos, lambda x: mp.cos(x), LINE, EVERYWHERE),
    "tan": (lax.tan, lambda x: mp.tan(x), (-1.4, -0.3, 0.0, 0.5, 1.2), (-1.5, 1.5)),
    "asin": (lax.asin, lambda x: mp.asin(x), INSIDE, (-1.0, 1.0)),
    "acos": (lax.acos, lambda x: mp.acos(x), INSIDE, (-1.0, 1.0)),
    "atan": (lax.atan, lambda x: mp.atan(x), LINE, EVERYWHERE),
    "sinh": (lax.sinh, lambda x: mp.sinh(x), LINE, EVERYWHERE),
    "cosh": (lax.cosh, lambda x: mp.cosh(x), LINE, EVERYWHERE),
    "asinh": (lax.asinh, lambda x: mp.asinh(x), LINE, EVERYWHERE),
    "acosh": (lax.acosh, lambda x: mp.acosh(x), (1.01, 1.5, 3.0, 40.0), (1.0, np.inf)),
    "atanh": (lax.atanh, lambda x: mp.atanh(x), INSIDE, (-1.0, 1.0)),
    "logistic": (lax.logistic, lambda x: 1 / (1 + mp.exp(-x)), LINE, EVERYWHERE),
    "tanh": (lax.tanh, lambda x: mp.tanh(x), LINE, EVERYWHERE),
    "erf": (lax.erf, lambda x: mp.erf(x), MIDDLE, EVERYWHERE),
    "erfc": (lax.erfc, lambda x: mp.erfc(x), MIDDLE, EVERYWHERE),
    "erf_inv": (lax.erf_inv, lambda x: mp.erfinv(x), INSIDE, (-1.0, 1.0)),
    "lgamma": (lax.lgamma, lambda x: mp.loggamma(x), POSITIVE, ABOVE),
    "digamma": (lax.digamma, lambda x: mp.digamma(x), POSITIVE, ABOVE),
    "square": (lax.square, lambda x: x * x, LINE, EVERYWHERE),
    "cube": (lambda x: lax.integer_pow(x, 3), lambda x: x**3, LINE, EVERYWHERE),
    "seventh power": (lambda x: lax.integer_pow(x, 7), lambda x: x**7, LINE, EVERYWHERE),
    "inverse square": (lambda x: lax.integer_pow(x, -2), lambda x: x**-2, POSITIVE, ABOVE),
    "inverse": (lambda x: 1 / x, lambda x: 1 / x, POSITIVE, ABOVE),
    "power": (lambda x: x**1.7, lambda x: x ** mp.mpf(1.7), POSITIVE, ABOVE),
    "abs": (lax.abs, lambda x: abs(x), LINE, EVERYWHERE),
    "relu": (jax.nn.relu, lambda x: max(x, 0), LINE, EVERYWHERE),
}
NEWER = {"log2": "log2_p", "one_minus_square": "one_minus_square_p"}


def grid(points, ends, dtype):
    """Points and changes; not so near an end of where the function is defined that b = a + u loses its digits."""
    u = [sign * size for size in CHANGES for sign in (1, -1)]
    a, u = (x.ravel().astype(dtype) for x in np.meshgrid(points, u))
    low, high = (np.abs(end - (a.astype(float) + u)) > 1e-3 * np.abs(end - a) for end in ends)
    inside = (a.astype(float) + u > ends[0]) & (a.astype(float) + u < ends[1])
    keep = inside & (low | np.isinf(ends[0])) & (high | np.isinf(ends[1]))
    return a[keep], u[keep]


def test_every_rule_is_here():
    assert set(ELEMENTWISE) - set(NEWER) - {"atan2"} <= set(CASES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_the_change_has_the_digits_of_the_dtype(name, dtype, x64):
    function, many_digits, points, ends = CASES[name]
    a, u = grid(points, ends, dtype)
    (ours,) = [np.asarray(change_of(function, [jnp.asarray(a)], [jnp.asarray(u)]), np.float64)]
    with mp.workdps(120):
        a, u = ([mp.mpf(float(x)) for x in part] for part in (a, u))
        true = np.array([float(many_digits(x + h) - many_digits(x)) for x, h in zip(a, u, strict=True)])
        least = np.array([float(abs(h)) for h in u])
    floor = np.full_like(true, np.finfo(dtype).tiny / np.finfo(dtype).eps)
    if name in ("sin", "cos"):  # whose slope passes through 0
        floor = np.minimum(least, 1) / 10
    if name in ("tanh", "logistic"):  # a large step back from where they are flat
        floor = np.where(least > 0.5, 0.1, floor)
    wrong = np.abs(ours - true) / np.maximum(np.abs(true), floor)
    allowed = 2000 if name == "erf_inv" else 120  # JAX's own erf_inv near 1
    assert np.max(np.where(np.abs(true) > np.finfo(dtype).max, 0, wrong)) < allowed * np.finfo(dtype).eps


@pytest.mark.parametrize("name", CASES)
def test_no_change_is_none_and_the_derivative_that_of_the_function(name, x64):
    function, _, points, ends = CASES[name]
    a, u = (jnp.asarray(x) for x in grid(points, ends, np.float64))
    assert not np.any(change_of(function, [a], [jnp.zeros_like(u)]))
    ours, true = pulled_back(function, [a], [u], jnp.ones_like(a))
    finite = np.isfinite(true[0])
    np.testing.assert_allclose(ours[0][finite], true[0][finite], rtol=1e-13, atol=1e-14)

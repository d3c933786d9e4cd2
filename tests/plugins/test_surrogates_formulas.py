"""The formulas in the documentation are those in the code, and the primitive's derivative is the derivative."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai

sympy = pytest.importorskip("sympy")
from latex_formulas import evaluate  # noqa: E402 (needs sympy)

NAMES = neurai.names("surrogate")
# Both sides of the threshold, near and far, at no kink of any surrogate, in units of a typical width.
AT = (-2.37, -0.93, -0.31, -0.07, 0.11, 0.38, 1.13, 2.71)


def typical(surrogate):
    half = float(surrogate.facts.half_width)
    return min(half, 1.0) if math.isfinite(half) else 1.0


@pytest.mark.parametrize("factor", [1.0, 0.8])
@pytest.mark.parametrize("name", NAMES)
def test_the_documented_formulas_equal_the_code(name, factor, x64):
    spec = neurai.spec("surrogate", name)
    fields = spec.config.model_fields.items()
    changed = {key: factor * field.default for key, field in fields if field.annotation is float}
    surrogate = neurai.surrogate(name, **changed)
    points = [typical(surrogate) * at for at in AT]
    for formula in ("derivative", "primitive"):
        latex = getattr(spec, formula)
        right = [evaluate(latex, sympy.Float(u, 30), u, surrogate.settings, spec.letters) for u in points]
        ours = getattr(surrogate, formula)(jnp.array(points))
        np.testing.assert_allclose(ours, [float(one) for one in right], rtol=1e-12, atol=1e-15, err_msg=formula)


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_of_the_documented_primitive_is_the_documented_derivative(name):
    spec, surrogate, u = neurai.spec("surrogate", name), neurai.surrogate(name), sympy.Symbol("u", real=True)
    for point in (typical(surrogate) * at for at in AT):
        primitive = evaluate(spec.primitive, u, point, surrogate.settings, spec.letters)
        slope = sympy.diff(primitive, u).subs(u, sympy.Float(point, 30)).evalf(25)
        right = evaluate(spec.derivative, sympy.Float(point, 30), point, surrogate.settings, spec.letters)
        assert abs(float(slope - right)) < 1e-15 * (1 + abs(float(right)))

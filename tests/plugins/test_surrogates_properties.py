"""Every surrogate that can be found by name has these properties; a new one is tested by being registered."""

from __future__ import annotations

import inspect
import math
from contextlib import ExitStack
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
import neurai_surrogates
from neurai_core.errors import DataError, SettingsError
from neurai_core.grads import surrogate_grad
from neurai_core.plugin import Plugin
from neurai_core.surrogate_makers import normalized

BUILT_IN = [one for one in vars(neurai_surrogates).values() if isinstance(one, Plugin)]
NAMES = sorted({*neurai.names("surrogate"), *(plugin.neurai_spec().name for plugin in BUILT_IN)})
WIDTHS = {"as documented": 1.0, "at 0.6 of every default": 0.6}
GAUSS = np.polynomial.legendre.leggauss(200)


@pytest.fixture(autouse=True, scope="module")
def every_built_in_surrogate_is_found_by_name():
    with ExitStack() as stack:
        for plugin in BUILT_IN:
            stack.enter_context(neurai.temporary(plugin, replace=True))
        yield


@pytest.fixture(params=product(NAMES, WIDTHS), ids=lambda pair: " ".join(pair))
def surrogate(request):
    name, width = request.param
    return neurai.surrogate(name, **scaled(name, WIDTHS[width]))


@pytest.fixture(params=NAMES)
def default(request):
    return neurai.surrogate(request.param)


def numbers(name):
    fields = neurai.spec("surrogate", name).config.model_fields
    return {key: field.default for key, field in fields.items() if field.annotation is float}


def scaled(name, factor):
    return {key: factor * default for key, default in numbers(name).items()}


def grid(surrogate, clear_of_kinks=1e-3):
    """Points on both sides of the threshold, always as many, none of them at a kink of g."""
    width = float(surrogate.facts.half_width)
    u = np.linspace(-3.1, 3.3, 128) * width
    for kink in (0.0, *filter(math.isfinite, map(float, surrogate.facts.support))):
        near = np.abs(u - kink) < clear_of_kinks * width
        u[near] += 3 * clear_of_kinks * width
    return jnp.asarray(u)


def central(function, u, h):
    return (function(u + h) - function(u - h)) / (2 * h)


def spikes_and_primitive(surrogate):
    return surrogate.replace(spiking=True), surrogate.replace(spiking=False)


def total(surrogate, u):
    return jnp.vdot(surrogate(u), jnp.cos(jnp.arange(u.size)))


# ---- shape of g and P


def test_declared_symmetry_holds(surrogate, x64):
    u, area = grid(surrogate), surrogate.facts.area
    assert surrogate.facts.symmetric == (neurai.spec("surrogate", surrogate.origin.name).symmetry == "even")
    if surrogate.facts.symmetric:
        np.testing.assert_allclose(surrogate.derivative(-u), surrogate.derivative(u), rtol=1e-14)
        np.testing.assert_allclose(surrogate.primitive(u) + surrogate.primitive(-u), area, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(surrogate.primitive(0.0), area / 2, rtol=1e-15)


def test_the_primitive_rises_from_0_to_the_area(surrogate, x64):
    np.testing.assert_allclose(surrogate.limits, (0, surrogate.facts.area), atol=1e-15)


def test_the_integral_of_the_derivative_is_the_area(surrogate, x64):
    def half_line(sign):
        """Integral from the threshold outward, by Gauss's rule; u = w t / (1 - t) where it has no end."""
        t, weights = (GAUSS[0] + 1) / 2, GAUSS[1] / 2
        end = abs(surrogate.facts.support[sign > 0])
        w = float(surrogate.facts.half_width)
        u, du = (end * t, end) if math.isfinite(end) else (w * t / (1 - t), w / (1 - t) ** 2)
        return jnp.sum(weights * du * surrogate.derivative(sign * u))

    np.testing.assert_allclose(half_line(1) + half_line(-1), surrogate.facts.area, rtol=1e-9)


def test_the_derivative_is_the_slope_of_the_primitive(surrogate, x64):
    u, h = grid(surrogate), 1e-4 * surrogate.facts.half_width
    np.testing.assert_allclose(
        central(surrogate.primitive, u, h),
        surrogate.derivative(u),
        rtol=1e-5,
        atol=1e-7 * surrogate.facts.peak,
    )


@pytest.mark.parametrize("of", ["primitive", "forward"])
def test_differentiating_the_primitive_gives_the_derivative_also_at_the_threshold(surrogate, of, x64):
    function = surrogate.primitive if of == "primitive" else surrogate.replace(spiking=False)
    u = jnp.append(grid(surrogate), 0.0)
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(u), surrogate.derivative(u), rtol=1e-12, atol=1e-15)


def test_sign_peak_and_support_are_as_declared(surrogate, x64):
    facts, u = surrogate.facts, grid(surrogate)
    g = surrogate.derivative(u)
    np.testing.assert_allclose(surrogate.derivative(0.0), facts.peak, rtol=1e-14)
    assert jnp.all(g <= facts.peak)
    far = surrogate.derivative(jnp.linspace(1, 9, 99) * facts.half_width)
    assert bool(jnp.any(far < 0)) == facts.signed
    if not facts.signed:
        order = jnp.argsort(jnp.abs(u))
        assert jnp.all(jnp.diff(g[order]) <= 1e-15 * facts.peak)
    for end in filter(math.isfinite, map(float, facts.support)):
        assert surrogate.derivative(end * 1.0001) == 0 and surrogate.derivative(end * 0.9999) > 0


def test_the_derivative_is_half_its_peak_at_the_half_width(surrogate, x64):
    w, half = surrogate.facts.half_width, surrogate.facts.peak / 2
    assert surrogate.derivative(w * (1 + 1e-9)) <= half <= surrogate.derivative(w * (1 - 1e-9))


def test_the_facts_agree_with_the_spec(surrogate, x64):
    spec = neurai.spec("surrogate", surrogate.origin.name)
    known = {**surrogate.settings, "sqrt": math.sqrt}
    assert spec.width in surrogate.settings
    assert eval(spec.area, known) == pytest.approx(surrogate.facts.area, rel=1e-15)
    inside = [spec.support == "all" or eval(spec.support, known, {"u": u}) for u in grid(surrogate).tolist()]
    np.testing.assert_array_equal(inside, surrogate.derivative(grid(surrogate)) != 0)
    claims = {
        "unimodal": not surrogate.facts.signed,
        "signed": surrogate.facts.signed,
        "unit-area": neurai.surrogate(spec.name).facts.area == 1 and surrogate.facts.area == 1,
        "compact": all(map(math.isfinite, surrogate.facts.support)),
    }
    assert all(claims[claim] for claim in spec.claims)
    assert bool(spec.primitive) == surrogate.has_primitive


# ---- forward and backward


def test_spikes_are_zeros_and_ones_from_the_threshold_on(default, x64):
    u = jnp.array([-jnp.inf, -1e30, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1e30, jnp.inf])
    np.testing.assert_array_equal(default(u), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(default.spikes(u), default(u) == 1)
    assert default.spikes(u).dtype == bool


def test_without_spiking_the_forward_pass_is_the_primitive_and_the_gradient_the_same(surrogate, x64):
    spiking, soft = spikes_and_primitive(surrogate)
    u = jnp.append(grid(surrogate), 0.0)
    np.testing.assert_array_equal(soft(u), surrogate.primitive(u))
    expected = surrogate.derivative(u) * jnp.cos(jnp.arange(u.size))
    for one in (spiking, soft):
        np.testing.assert_array_equal(jax.grad(total, 1)(one, u), expected)


def test_all_transformations_agree(default, x64):
    u = grid(default)[::16].reshape(-1, 1)
    g = default.derivative(u)
    sum_of = lambda u: default(u).sum()  # noqa: E731
    np.testing.assert_allclose(jax.jit(default)(u), default(u))
    np.testing.assert_allclose(jax.jit(jax.grad(sum_of))(u), g, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(jax.vmap(jax.grad(sum_of))(u), g, rtol=1e-13, atol=1e-300)
    np.testing.assert_array_equal(jax.jvp(default, (u,), (2 * jnp.ones_like(u),))[1], 2 * g)
    scanned = lambda u: jax.lax.scan(lambda sum_, x: (sum_ + default(x).sum(), None), 0.0, u)[0]  # noqa: E731
    np.testing.assert_allclose(jax.grad(scanned)(u), g, rtol=1e-13, atol=1e-300)
    flat = u.ravel()
    forward, reverse = jax.jacfwd(default)(flat), jax.jacrev(default)(flat)
    np.testing.assert_array_equal(forward, reverse)
    np.testing.assert_array_equal(jnp.diag(forward), g.ravel())


def test_the_second_derivative_is_the_slope_of_the_derivative(default, x64):
    u, h = grid(default, clear_of_kinks=0.01), 1e-4 * default.facts.half_width
    slope = central(default.derivative, u, h)
    scale = default.facts.peak / default.facts.half_width
    for nested in (jax.grad(jax.grad(default)), jax.jacfwd(jax.grad(default)), jax.hessian(default)):
        np.testing.assert_allclose(jax.vmap(nested)(u), slope, rtol=1e-5, atol=1e-6 * scale)


def test_integers_booleans_and_complex_numbers_are_refused(default):
    for wrong in (jnp.arange(3), jnp.array([True]), jnp.array([1j]), 1, "u", None):
        for function in (default, default.derivative, default.primitive, default.spikes):
            with pytest.raises(DataError, match=f"{type(default).__name__} got u as .*floating-point"):
                function(wrong)


# ---- precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_dtype_is_kept_and_16_bits_are_rounded_once(default, dtype, x64):
    u = jnp.append(grid(default), 0.0).astype(dtype)
    exact = u.astype(jnp.float64)
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_normal)
    for of in ("derivative", "primitive"):
        ours, right = getattr(default, of)(u), getattr(default, of)(exact)
        assert ours.dtype == u.dtype
        bound = max(2 * eps, 1e-5) if dtype != "float64" else 0
        peak = float(jnp.max(jnp.abs(right)))
        np.testing.assert_allclose(ours.astype(float), right, rtol=bound, atol=1e-7 * peak + tiny)
    gradient = jax.grad(total, 1)(default, u)
    assert default(u).dtype == gradient.dtype == u.dtype


def test_numbers_of_higher_precision_promote_nothing(default, x64):
    learned = jax.tree.map(jnp.asarray, default)
    u = jnp.append(grid(default), 0.0).astype(jnp.bfloat16)
    assert learned(u).dtype == learned.derivative(u).dtype == learned.primitive(u).dtype == jnp.bfloat16
    np.testing.assert_array_equal(learned.derivative(u), default.derivative(u))
    slopes = jax.grad(lambda one: one(u).astype(jnp.float32).sum())(learned)
    assert {leaf.dtype for leaf in jax.tree.leaves(slopes)} == {jnp.dtype("float64")}


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_nothing_but_nan_gives_nan(default, dtype, spiking, x64):
    @jax.jit
    def everything(one, u):
        slopes = jax.grad(lambda one, u: one(u).astype(float).sum(), (0, 1))(one, u)
        return one(u), one.derivative(u), one.primitive(u), slopes

    large = 1e4 if dtype == "float16" else 1e30
    u = jnp.array([0.0, 1e-30, -1e-30, large, -large, jnp.inf, -jnp.inf]).astype(dtype)
    one = default.replace(spiking=spiking)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(everything(one, u)))
    forward, derivative, primitive, _ = everything(one, jnp.full_like(u, jnp.nan))
    assert all(bool(jnp.all(jnp.isnan(out))) for out in (forward, derivative, primitive))


# ---- the numbers of a surrogate


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_out_of_range_are_refused_by_name(name, wrong):
    cls = getattr(surrogate_grad, next(iter(neurai.spec("surrogate", name).offers)))
    for number in numbers(name):
        if (number, wrong) == ("hight", 0.0):  # no side lobes: the plain Gaussian
            continue
        for make in (cls, lambda **settings: neurai.surrogate(name, **settings)):
            with pytest.raises(SettingsError, match=rf"^{number}: .*\n{number}: float >"):
                make(**{number: wrong})


@pytest.mark.parametrize("spiking", [True, False])
def test_a_learned_number_gets_the_derivative_of_the_primitive_by_it(surrogate, spiking, x64):
    u = grid(surrogate, clear_of_kinks=0.01)
    soft = surrogate.replace(spiking=False)
    slopes = jax.grad(total)(surrogate.replace(spiking=spiking), u)
    for number in numbers(surrogate.origin.name):
        value = getattr(surrogate, number)
        expected = central(lambda v, number=number: total(soft.replace(**{number: v}), u), value, 1e-5 * value)
        np.testing.assert_allclose(getattr(slopes, number), expected, rtol=1e-6, atol=1e-8)


def test_mapping_over_numbers_equals_a_loop(default, x64):
    u, name = grid(default), default.origin.name
    factors = jnp.array([0.5, 1.0, 1.5])

    def slope(factor):
        settings = {key: factor * value for key, value in numbers(name).items()}
        return jax.grad(total, 1)(neurai.surrogate(name, **settings), u)

    np.testing.assert_allclose(
        jax.vmap(slope)(factors), [slope(float(factor)) for factor in factors], rtol=1e-13, atol=1e-300
    )


def test_normalized_has_area_one_and_the_same_shape(default, x64):
    u, one = grid(default), normalized(default)
    np.testing.assert_allclose(one.derivative(u) * default.facts.area, default.derivative(u), rtol=1e-14)
    np.testing.assert_allclose(one.limits, (0, 1), atol=1e-15)
    assert one.facts.area == 1 and one.facts.half_width == default.facts.half_width
    np.testing.assert_allclose(one.derivative(0.0), one.facts.peak, rtol=1e-14)


# ---- the documented classes

DOCUMENTED = {
    "Gaussian": {"alpha": 1.0},
    "MultiGaussian": {"lens": 0.5, "scale": 6.0, "hight": 0.15},
    "Polynomial": {"alpha": 1.0, "spiking": True},
    "Rectangular": {"alpha": 1.0, "spiking": True},
    "Sigmoid": {"alpha": 4.0, "spiking": True},
    "SingleExponential": {"grad_width": 0.5, "grad_scale": 1.0},
    "SlayerPdf": {"scale": 1, "tau": 10.0, "spiking": True},
    "SuperSpike": {"alpha": 1.0},
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_classes_keep_their_signatures_and_take_spiking(name):
    cls = getattr(surrogate_grad, name)
    parameters = inspect.signature(cls).parameters
    positional = {key: one.default for key, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD}
    assert positional == DOCUMENTED[name] and list(positional) == list(DOCUMENTED[name])
    assert parameters["spiking"].default is True
    assert issubclass(cls, surrogate_grad.SurrogateFunctionBase)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_class_the_registry_and_the_config_agree_on_defaults(name):
    cls = getattr(surrogate_grad, name)
    by_name = neurai.surrogate(name)
    assert by_name == cls() and hash(by_name) == hash(cls())
    assert type(by_name).__name__ == name and by_name.config == cls.config_class()
    assert all(by_name.meanings.values())

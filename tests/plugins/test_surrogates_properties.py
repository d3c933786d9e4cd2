"""Every surrogate that can be found by name has these properties; a new one is tested by being registered."""

from __future__ import annotations

import inspect
import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, SettingsError, UsageError
from neurai_core.explain import describe_settings
from neurai_core.grads import surrogate_grad
from neurai_core.surrogates import normalized

pytestmark = pytest.mark.usefixtures("quick_compile")
NAMES = neurai.names("surrogate")
WIDTHS = {"as documented": 1.0, "at 0.6 of every default": 0.6}
GAUSS = np.polynomial.legendre.leggauss(200)
KEY = np.array([0, 7], np.uint32)
# Where a NaN is an answer of no use: both sides of the threshold, next to it, far out and beyond.
SPECIAL = np.array([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf])


@pytest.fixture(params=product(NAMES, WIDTHS), ids=lambda pair: " ".join(pair))
def surrogate(request):
    name, width = request.param
    return neurai.surrogate(name, **scaled(name, WIDTHS[width]))


@pytest.fixture(params=NAMES)
def default(request):
    return neurai.surrogate(request.param)


@pytest.fixture(params=NAMES)
def changed(request):
    """One whose numbers are not its defaults."""
    return neurai.surrogate(request.param, **scaled(request.param, 0.6))


def numbers(name):
    fields = neurai.spec("surrogate", name).config.model_fields
    return {key: field.default for key, field in fields.items() if field.annotation is float}


def scaled(name, factor):
    return {key: factor * default for key, default in numbers(name).items()}


def fire(surrogate, u):
    """The forward pass; a surrogate that draws no spikes ignores the key."""
    return surrogate(u, key=KEY)


def finite(values):
    return [float(value) for value in values if math.isfinite(value)]


def spread(surrogate):
    """A distance over which g changes: the half width, or the width where g never falls to half."""
    spec = neurai.spec("surrogate", surrogate.origin.name)
    return finite([surrogate.facts.half_width, surrogate.settings.get(spec.width, 1.0)])[0]


def grid(surrogate, clear_of_kinks=1e-3):
    """Points on both sides of the threshold, always as many, none of them at a kink of g."""
    width = spread(surrogate)
    u = np.linspace(-3.1, 3.3, 128) * width
    for kink in (0.0, *finite(surrogate.facts.support)):
        near = np.abs(u - kink) < clear_of_kinks * width
        u[near] += 3 * clear_of_kinks * width
    return jnp.asarray(u)


def central(function, u, h):
    return (function(u + h) - function(u - h)) / (2 * h)


def total(surrogate, u):
    return jnp.vdot(fire(surrogate, u), jnp.cos(jnp.arange(u.size)))


# ---- shape of g and P


def test_declared_symmetry_holds(surrogate, x64):
    u, facts = grid(surrogate), surrogate.facts
    assert facts.symmetric == (neurai.spec("surrogate", surrogate.origin.name).symmetry == "even")
    g, mirrored = surrogate.derivative(u), surrogate.derivative(-u)
    if not facts.symmetric:
        assert not np.allclose(g, mirrored)
        return
    np.testing.assert_allclose(mirrored, g, rtol=1e-14)
    middle = surrogate.primitive(0.0)
    scale = float(jnp.max(jnp.abs(surrogate.primitive(u))))
    np.testing.assert_allclose(
        surrogate.primitive(u) + surrogate.primitive(-u), 2 * middle, rtol=1e-14, atol=1e-15 * scale
    )
    if facts.area is not None and math.isfinite(facts.area):
        np.testing.assert_allclose(middle, facts.area / 2, rtol=1e-15)


def test_the_primitive_goes_from_its_lower_limit_up_by_the_area(surrogate, x64):
    (low, high), area = surrogate.limits, surrogate.facts.area
    if area is None:  # periodic: no limits, so their mean stands for both
        np.testing.assert_allclose((low, high), surrogate.primitive(0.0))
    elif math.isinf(area):
        assert high == math.inf and low in (0, -math.inf)
    else:
        np.testing.assert_allclose((low, high), (0, area), rtol=1e-15, atol=1e-15)


def test_the_integral_of_the_derivative_is_the_area(surrogate, x64):
    area = surrogate.facts.area
    if area is None or math.isinf(area):
        with pytest.raises(UsageError, match="area"):
            normalized(surrogate)
        return

    def half_line(sign):
        """Integral from the threshold outward: Gauss's rule, or the double exponential one where there is no end."""
        end = abs(surrogate.facts.support[sign > 0])
        if math.isfinite(end):
            u, du = end * (GAUSS[0] + 1) / 2, end * GAUSS[1] / 2
        else:
            t = np.linspace(-6.0, 6.0, 385)
            u = spread(surrogate) * np.exp(np.pi / 2 * np.sinh(t))
            du = u * np.pi / 2 * np.cosh(t) * (t[1] - t[0])
        return jnp.vdot(du, surrogate.derivative(sign * u))

    np.testing.assert_allclose(half_line(1) + half_line(-1), area, rtol=1e-9)


def test_the_derivative_is_the_slope_of_the_primitive(changed, x64):
    u, h = grid(changed), 1e-4 * spread(changed)
    np.testing.assert_allclose(
        central(changed.primitive, u, h),
        changed.derivative(u),
        rtol=1e-5,
        atol=1e-7 * changed.facts.peak,
    )


def test_differentiating_the_primitive_gives_the_derivative_also_at_the_threshold(changed, x64):
    u = jnp.append(grid(changed), 0.0)
    slope = jax.vmap(jax.grad(changed.primitive))(u)
    np.testing.assert_allclose(slope, changed.derivative(u), rtol=1e-12, atol=1e-15)


def test_sign_peak_and_support_are_as_declared(surrogate, x64):
    facts, u = surrogate.facts, grid(surrogate)
    claims = neurai.spec("surrogate", surrogate.origin.name).claims
    g = surrogate.derivative(u)
    np.testing.assert_allclose(surrogate.derivative(0.0), facts.peak, rtol=1e-14)
    assert jnp.all(g <= facts.peak * (1 + 1e-15))
    far = surrogate.derivative(jnp.linspace(1, 9, 128) * spread(surrogate))
    assert bool(jnp.any(far < 0)) == facts.signed
    if "unimodal" in claims:
        order = jnp.argsort(jnp.abs(u))
        assert jnp.all(jnp.diff(g[order]) <= 1e-15 * facts.peak)
    step = 1e-4 * spread(surrogate)
    for end, outward in zip(facts.support, (-step, step), strict=True):
        if math.isfinite(end):
            assert surrogate.derivative(end + outward) == 0 and surrogate.derivative(end - outward) > 0


def test_the_derivative_is_half_its_peak_at_the_half_width(surrogate, x64):
    w, half = surrogate.facts.half_width, surrogate.facts.peak / 2
    if math.isinf(w):
        assert surrogate.derivative(1e6) > half
        return
    sides = jnp.array([1.0, -1.0]) * w
    assert jnp.all(surrogate.derivative(sides * (1 + 1e-9)) <= half)
    assert jnp.any(surrogate.derivative(sides * (1 - 1e-9)) >= half)


def test_the_facts_agree_with_the_spec(surrogate, x64):
    spec, u = neurai.spec("surrogate", surrogate.origin.name), grid(surrogate)
    known = {**surrogate.settings, "sqrt": math.sqrt, "inf": math.inf}
    assert spec.width in {*surrogate.settings, ""}
    if spec.area:
        assert eval(spec.area, known) == pytest.approx(float(surrogate.facts.area), rel=1e-15)
    else:
        assert surrogate.facts.area is None
    inside = [spec.support == "all" or eval(spec.support, known, {"u": one}) for one in u.tolist()]
    np.testing.assert_array_equal(inside, surrogate.derivative(u) != 0)
    claims = {
        "unimodal": not surrogate.facts.signed,
        "signed": surrogate.facts.signed,
        "unit-area": neurai.surrogate(spec.name).facts.area == 1 and surrogate.facts.area == 1,
        "compact": all(map(math.isfinite, surrogate.facts.support)),
        "drawn": surrogate.needs_key,
        "counted": fire(surrogate, 1e6) > 1,
    }
    assert all(claims[claim] for claim in spec.claims)
    assert surrogate.needs_key == ("drawn" in spec.claims)
    assert bool(spec.primitive) == surrogate.has_primitive


def test_every_setting_says_what_it_means_and_every_surrogate_where_it_comes_from(default):
    assert all(default.meanings.values()) and list(default.meanings) == list(default.settings | {"spiking": True})
    spec = neurai.spec("surrogate", default.origin.name)
    assert spec.derivative and spec.summary and spec.references
    assert type(default).__name__ in spec.offers


# ---- forward and backward


def test_spikes_are_whole_numbers_from_the_threshold_on(default, x64):
    u = jnp.array([-jnp.inf, -1e30, -1e3, -1e-30, -0.0, 0.0, 1e-30, 1e30, jnp.inf])
    spikes = fire(default, u)
    np.testing.assert_array_equal(spikes[:3], 0)
    if not default.needs_key:
        np.testing.assert_array_equal(spikes[3:7], [0, 1, 1, 1])
    assert jnp.all(spikes[7:] == default.settings.get("levels", 1))
    stored = default.spikes(u, key=KEY)
    np.testing.assert_array_equal(stored, spikes)
    assert stored.dtype == (jnp.uint8 if "levels" in default.settings else bool)


def test_without_spiking_the_forward_pass_is_the_primitive_and_the_gradient_the_same(changed, x64):
    u = jnp.append(grid(changed), 0.0)
    np.testing.assert_array_equal(changed.replace(spiking=False)(u), changed.primitive(u))
    expected = changed.derivative(u) * jnp.cos(jnp.arange(u.size))
    for spiking in (True, False):
        np.testing.assert_array_equal(jax.grad(total, 1)(changed.replace(spiking=spiking), u), expected)


def test_all_transformations_agree_in_one_program(default, x64):
    u = grid(default)[::16].reshape(-1, 1)
    traces = []

    @jax.jit
    def program(one, u):
        traces.append(one)
        summed = lambda u: fire(one, u).sum()  # noqa: E731
        scanned = lambda u: jax.lax.scan(lambda sum_, x: (sum_ + summed(x), None), 0.0, u)[0]  # noqa: E731
        flat = u.ravel()
        return {
            "reverse": jax.grad(summed)(u),
            "forward": jax.jvp(lambda u: fire(one, u), (u,), (jnp.ones_like(u),))[1],
            "mapped": jax.vmap(jax.grad(summed))(u),
            "scanned": jax.grad(scanned)(u),
            "jacfwd": jnp.diag(jax.jacfwd(lambda u: fire(one, u))(flat)).reshape(u.shape),
            "jacrev": jnp.diag(jax.jacrev(lambda u: fire(one, u))(flat)).reshape(u.shape),
        }

    learned = jax.tree.map(jnp.asarray, default)
    for one in (learned, jax.tree.map(lambda leaf: 1.0 * leaf, learned)):
        for way, found in program(one, u).items():
            np.testing.assert_allclose(found, default.derivative(u), rtol=1e-13, atol=1e-14, err_msg=way)
    assert len(traces) == 1


def test_the_second_derivative_is_the_slope_of_the_derivative(default, x64):
    u, h = grid(default, clear_of_kinks=0.01), 1e-4 * spread(default)
    slope = central(default.derivative, u, h)
    one = lambda u: fire(default, u)  # noqa: E731
    for nested in (jax.grad(jax.grad(one)), jax.jacfwd(jax.grad(one))):
        np.testing.assert_allclose(
            jax.vmap(nested)(u), slope, rtol=1e-5, atol=1e-6 * default.facts.peak / spread(default)
        )


def test_integers_booleans_and_complex_numbers_are_refused(default):
    for wrong in (np.arange(3), np.array([True]), np.array([1j]), 1, "u", None):
        for function in (default, default.derivative, default.primitive, default.spikes):
            with pytest.raises(DataError, match=f"{type(default).__name__} got u as .*floating-point"):
                function(wrong)


# ---- precision


def test_dtype_is_kept_and_16_bits_are_rounded_once(default, x64):
    for dtype in ("bfloat16", "float16", "float32", "float64"):
        u = jnp.append(grid(default), 0.0).astype(dtype)
        exact = u.astype(jnp.float64)
        eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_normal)
        for of in ("derivative", "primitive"):
            ours, right = getattr(default, of)(u), getattr(default, of)(exact)
            assert ours.dtype == u.dtype
            bound = max(2 * eps, 1e-5) if dtype != "float64" else 0
            peak = float(jnp.max(jnp.abs(right)))
            np.testing.assert_allclose(ours.astype(float), right, rtol=bound, atol=2e-7 * peak + tiny, err_msg=dtype)
        gradient = jax.grad(total, 1)(default, u)
        assert fire(default, u).dtype == gradient.dtype == u.dtype


def test_numbers_of_higher_precision_promote_nothing(default, x64):
    learned = jax.tree.map(jnp.asarray, default)
    u = jnp.append(grid(default), 0.0).astype(jnp.bfloat16)
    assert fire(learned, u).dtype == learned.derivative(u).dtype == learned.primitive(u).dtype == jnp.bfloat16
    np.testing.assert_array_equal(learned.derivative(u), default.derivative(u))
    slopes = jax.grad(lambda one: fire(one, u).astype(jnp.float32).sum())(learned)
    assert {leaf.dtype for leaf in jax.tree.leaves(slopes)} <= {jnp.dtype("float64")}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_nan_gives_nan(name, dtype, x64):
    surrogate = neurai.surrogate(name, **scaled(name, 1.0 if dtype == "float64" else 0.6))
    ends_somewhere = surrogate.facts.area is None or math.isfinite(surrogate.facts.area)
    inside = 1e4 if dtype == "float16" else 1e30
    u = jnp.asarray(np.where(np.isinf(SPECIAL), SPECIAL, np.clip(SPECIAL, -inside, inside)), dtype)
    values = [surrogate.derivative(u), surrogate.primitive(u), fire(surrogate, u)]
    for spiking in (True, False):
        one = surrogate.replace(spiking=spiking)
        moved = jax.tree.map(jnp.ones_like, one)
        values.append(jax.jvp(fire, (one, u), (moved, jnp.ones_like(u)))[1])
    for place, value in enumerate(values):
        assert not jnp.any(jnp.isnan(value)), place
        # Without a limit, P is infinite where u is, and may leave the range of 16 bits.
        assert jnp.all(jnp.isfinite(value)) or not ends_somewhere, place
    for nan in (surrogate.derivative, surrogate.primitive, lambda u: fire(surrogate, u)):
        assert jnp.all(jnp.isnan(nan(jnp.full_like(u, jnp.nan))))


# ---- the numbers of a surrogate


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_out_of_range_are_refused_by_name(name, wrong):
    spec = neurai.spec("surrogate", name)
    cls = getattr(surrogate_grad, next(iter(spec.offers)))
    ranges = {row.name: row.range for row in describe_settings(spec.config)}
    for number in numbers(name):
        if wrong == 0 and ranges[number].startswith(">= 0"):  # a leak or a side lobe that is not there
            continue
        for make in (cls, lambda **settings: neurai.surrogate(name, **settings)):
            with pytest.raises(SettingsError, match=rf"^{number}: .*\n{number}: float >"):
                make(**{number: wrong})


@pytest.mark.parametrize("name", NAMES)
def test_an_array_with_one_element_out_of_range_is_refused(name):
    for number, default in numbers(name).items():
        for wrong in (np.array([1.0, -1.0, 2.0]) * (default or 1.0), jnp.array([1.0, math.nan]), [1.0, math.inf]):
            with pytest.raises(SettingsError, match=rf"^{number}\[\d\]: .*\n{number}: float >"):
                neurai.surrogate(name, **{number: wrong})


def test_a_learned_number_gets_the_derivative_of_the_primitive_by_it(changed, x64):
    u = grid(changed, clear_of_kinks=0.01)
    soft = changed.replace(spiking=False)
    slopes = [jax.grad(total)(one, u) for one in (changed, soft)]
    for number in numbers(changed.origin.name):
        value = getattr(changed, number)
        h = 1e-5 * (value or 1.0)
        low = max(value - h, 0.0)
        above, below = (total(soft.replace(**{number: v}), u) for v in (value + h, low))
        expected = (above - below) / (value + h - low)
        for one in slopes:
            np.testing.assert_allclose(getattr(one, number), expected, rtol=1e-6, atol=1e-7, err_msg=number)


def test_a_number_per_neuron_equals_neurons_one_by_one(default, x64):
    name, factors, u = default.origin.name, np.array([0.8, 1.5]), grid(default)[::16, None]
    given = {number: value * factors for number, value in numbers(name).items()}

    @jax.jit
    def values(one):
        by_number, by_u = jax.grad(lambda one, u: one(u).sum(), (0, 1))(one, jnp.broadcast_to(u, (8, 2)))
        return {"g": one.derivative(u), "P": one.primitive(u), "by u": by_u}, by_number

    many = neurai.surrogate(name, **given, spiking=False)
    one_by_one = [{number: jnp.asarray(one[k]) for number, one in given.items()} for k in range(2)]
    (found, slopes), each = values(many), [values(many.replace(**one)) for one in one_by_one]
    for way in found:
        stacked = jnp.stack([one[way][:, -1] for one, _ in each], axis=1)
        np.testing.assert_allclose(found[way], stacked[:, : found[way].shape[1]], rtol=1e-13, atol=1e-15)
    for number in given:  # one width alone is summed over both columns
        alone = [getattr(one, number) / 2 for _, one in each]
        np.testing.assert_allclose(getattr(slopes, number), alone, rtol=1e-12, atol=1e-13, err_msg=number)
    assert many.spikes(u, key=KEY).shape == (8, 2 if given else 1)
    assert {number: many.origin.settings[number] for number in given} == {
        key: one.tolist() for key, one in given.items()
    }


def test_the_facts_of_an_array_are_those_of_its_elements(default, x64):
    for number, value in numbers(default.origin.name).items():
        given = value * np.array([0.8, 1.5])
        many, alone = default.replace(**{number: given}).facts, [default.replace(**{number: a}).facts for a in given]
        for fact in ("area", "peak", "half_width"):
            stated, each = getattr(many, fact), [getattr(one, fact) for one in alone]
            if stated is None:
                assert each == [None, None]
            else:
                np.testing.assert_allclose(jnp.broadcast_to(stated, 2), each, rtol=1e-12, err_msg=f"{number} {fact}")


def test_mapping_over_numbers_equals_a_loop(default, x64):
    u, name = grid(default), default.origin.name
    factors = jnp.array([0.8, 1.0, 1.5])

    def slope(factor):
        settings = {key: factor * value for key, value in numbers(name).items()}
        return jax.grad(total, 1)(neurai.surrogate(name, **settings), u)

    np.testing.assert_allclose(
        jax.vmap(slope)(factors), [slope(float(factor)) for factor in factors], rtol=1e-13, atol=1e-14
    )


def test_normalized_has_area_one_and_the_same_shape(default, x64):
    area = default.facts.area
    if area is None or math.isinf(area):
        with pytest.raises(UsageError):
            normalized(default)
        return
    u, one = grid(default), normalized(default)
    np.testing.assert_allclose(one.derivative(u) * area, default.derivative(u), rtol=1e-14)
    np.testing.assert_allclose(one.limits, (0, 1), atol=1e-15)
    assert one.facts.area == 1 and one.facts.half_width == default.facts.half_width
    np.testing.assert_allclose(one.derivative(0.0), one.facts.peak, rtol=1e-14)
    np.testing.assert_array_equal(fire(one, u), fire(default, u))


# ---- other ways of firing


def test_drawn_spikes_have_the_probability_of_the_primitive_and_follow_their_key():
    escape = surrogate_grad.StochasticEscape(4.0)
    u, keys = np.linspace(-0.5, 0.5, 5, dtype=np.float32), jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: escape(u, key=key))(keys)
    expected = escape.primitive(u)
    assert jnp.all(jnp.abs(drawn.mean(0) - expected) < 4 * jnp.sqrt(expected * (1 - expected) / 4000))
    np.testing.assert_array_equal(escape(u, key=keys[0]), drawn[0])
    assert jnp.any(drawn[0] != drawn[1])
    with pytest.raises(UsageError, match=r"StochasticEscape draws its spikes and got no key.*\n.*key=jax.random.key"):
        escape(u)
    np.testing.assert_array_equal(escape.replace(spiking=False)(u), expected)


def test_counts_are_the_levels_passed_and_one_level_is_the_step():
    u = np.linspace(-1.0, 4.0, 51, dtype=np.float32)
    count = surrogate_grad.MultiLevelCount(spacing=0.5, levels=3)
    np.testing.assert_array_equal(count(u), sum(np.where(u >= k * 0.5, 1.0, 0.0) for k in range(3)))
    single = surrogate_grad.MultiLevelCount(spacing=0.7, levels=1)
    plain = surrogate_grad.Rectangular(0.7)
    np.testing.assert_array_equal(single(u), plain(u))
    np.testing.assert_array_equal(single.derivative(u), plain.derivative(u))


def test_erf_is_the_gaussian_by_another_number(x64):
    u = np.linspace(-3, 3, 7)
    by_slope, by_variance = surrogate_grad.Erf(0.5), surrogate_grad.Gaussian(2.0)
    np.testing.assert_allclose(by_slope.derivative(u), by_variance.derivative(u), rtol=1e-14)
    np.testing.assert_allclose(by_slope.primitive(u), by_variance.primitive(u), rtol=1e-14)


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


def test_the_class_the_registry_and_the_config_agree_on_defaults(default):
    cls = getattr(surrogate_grad, type(default).__name__)
    assert default == cls() and hash(default) == hash(cls())
    assert default.config == cls.config_class()

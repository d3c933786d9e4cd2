"""What is said of the surrogates that ship with NeurAI, beside what the conformance kit checks of every surrogate."""

from __future__ import annotations

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import SettingsError, UsageError
from neurai_core.explain import describe_settings
from neurai_core.grads import surrogate_grad
from neurai_core.surrogates import normalized

pytestmark = pytest.mark.usefixtures("quick_compile")
NAMES = neurai.names("surrogate")
KEY = np.array([0, 7], np.uint32)


def numbers(name):
    fields = neurai.spec("surrogate", name).config.model_fields
    return {key: field.default for key, field in fields.items() if field.annotation is float}


# ---- what they say about themselves


@pytest.mark.parametrize("name", NAMES)
def test_every_surrogate_states_all_facts_and_says_where_it_comes_from(name):
    spec, surrogate = neurai.spec("surrogate", name), neurai.surrogate(name)
    assert spec.derivative and spec.primitive and spec.references and type(surrogate).__name__ in spec.offers
    assert bool(spec.area) == (surrogate.facts.area is not None)
    assert None not in surrogate.facts[1:]


# ---- their numbers


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


@pytest.mark.parametrize("name", NAMES)
def test_normalized_has_area_one_and_the_same_shape(name, x64):
    default = neurai.surrogate(name)
    area = default.facts.area
    if area is None or math.isinf(area):
        with pytest.raises(UsageError, match="area"):
            normalized(default)
        return
    u, one = jnp.linspace(-3.1, 3.3, 128), normalized(default)
    np.testing.assert_allclose(one.derivative(u) * area, default.derivative(u), rtol=1e-14)
    np.testing.assert_allclose(one.limits, (0, 1), atol=1e-15)
    assert one.facts.area == 1 and one.facts.half_width == default.facts.half_width
    np.testing.assert_allclose(one.derivative(0.0), one.facts.peak, rtol=1e-14)
    np.testing.assert_array_equal(one(u, key=KEY), default(u, key=KEY))


def test_a_periodic_primitive_has_no_limits_and_their_mean_stands_for_both():
    wave = neurai.surrogate("squarewavefourier")
    np.testing.assert_allclose(wave.limits, wave.primitive(0.0))


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
    assert count.spikes(u).dtype == jnp.uint8 and surrogate_grad.Rectangular().spikes(u).dtype == bool
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

"""STDP: the published learning window, measured from single pairs of spikes, and sums of it over all pairs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_algorithms.stdp.rule import build
from neurai_algorithms.stdp.spec import STDPConfig
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import conv, dense
from neurai_core.models import mlp
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage, snn
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
WINDOW = {"a_plus": 0.3, "a_minus": 0.2, "tau_plus": 3.0, "tau_minus": 7.0}
SOFT = {"bounds": "soft", "w_max": 0.5}
STEPS, MIDDLE = 41, 20


def changes(config, w, pre, post):
    """Delta w by a spike train of the input and one of the neuron, which a second, strong input decides."""
    model = SpikingNetwork((Stage(dense(1, bias=False), LIF(0.0, reset="none")),), SuperSpike(2.0))
    params = ({"input": {"w": jnp.array([[w], [100.0]])}, "cell": {}},)
    x = jnp.stack([pre, 2 * post - 1], axis=-1)[None].astype(float)
    estimate = jax.jit(partial(build(config).estimate, model))
    return -estimate(params, (), (x, jnp.zeros((1, 0))))[0].grads[0]["input"]["w"][0, 0]


def spike_at(t):
    return jnp.arange(STEPS) == t


@pytest.mark.parametrize(
    ("settings", "largest", "smallest", "w"),
    [
        ({"bounds": "none"}, 0.3, 0.2, 0.1),
        (SOFT, 0.3 * (0.5 - 0.1), 0.2 * 0.1, 0.1),
        (SOFT, 0.3 * (0.5 - 0.4), 0.2 * 0.4, 0.4),
        ({}, 0.3 * (3.2 / 2 - 0.1), 0.2 * 0.1, 0.1),  # of two inputs
    ],
)
def test_one_pair_of_spikes_measures_the_exponential_window(settings, largest, smallest, w, x64):
    config = STDPConfig(**WINDOW, **settings)
    delays = jnp.arange(-15, 16)
    measured = jax.vmap(lambda delay: changes(config, w, spike_at(MIDDLE), spike_at(MIDDLE + delay)))(delays)
    window = np.where(delays >= 0, largest * np.exp(-delays / 3.0), -smallest * np.exp(delays / 7.0))
    np.testing.assert_allclose(measured, window, rtol=1e-10, atol=1e-15)


def test_all_pairs_of_two_spike_trains_add_up(x64):
    config = STDPConfig(**WINDOW, bounds="none")
    pre, post = jax.random.bernoulli(jax.random.key(0), 0.3, (2, STEPS))
    delays = np.subtract.outer(np.flatnonzero(post), np.flatnonzero(pre)).ravel()
    expected = np.where(delays >= 0, 0.3 * np.exp(-delays / 3.0), -0.2 * np.exp(delays / 7.0)).sum()
    np.testing.assert_allclose(changes(config, 0.1, pre, post), expected, rtol=1e-10)


def test_a_weight_with_soft_bounds_settles_where_growth_and_loss_balance(x64):
    config = STDPConfig(**WINDOW, **SOFT)
    pre, post = jax.random.bernoulli(jax.random.key(0), 0.3, (2, STEPS))
    one, other = (changes(config, w, pre, post) for w in (0.0, 0.5))  # growth alone, and loss alone
    np.testing.assert_allclose(changes(config, 0.5 * one / (one - other), pre, post), 0, atol=1e-12)


def test_readouts_that_do_not_fire_and_biases_stay(x64):
    model = snn((5, 7, 3), surrogate=SuperSpike(2.0), recurrent=True)
    params, _ = model.init(jax.random.key(0), (12, 5))
    x = 2 * jax.random.normal(jax.random.key(1), (6, 12, 5))
    grads = build(STDPConfig()).estimate(model, params, (), (x, jnp.zeros((6, 0))))[0].grads
    assert grads[0]["input"]["w"].any() and grads[0]["recurrent"].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves((grads[0]["input"]["b"], grads[1])))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mlp((4, 3)), "trains a SpikingNetwork, got a Layered"),
        (SpikingNetwork((Stage(dense(3), Leaky()),), None), "no stage of the network fires"),
        (snn((4, 6, 3), surrogate=None, steps=5), "encode='constant' shows the same numbers at every step"),
        (SpikingNetwork((Stage(conv(2, 3), LIF()),), None), r"stage 0 has conv\(2, 3\)"),
    ],
)
def test_networks_without_spikes_to_pair_are_named(model, words):
    with pytest.raises(ModelError, match=words):
        build(STDPConfig()).init(model, ())


def test_rows_without_targets_need_as_many_of_them():
    model = snn((5, 7, 3), surrogate=SuperSpike(2.0))
    params, _ = model.init(jax.random.key(0), (12, 5))
    with pytest.raises(DataError, match=r"let y have the shape \(B, 0\)"):
        build(STDPConfig()).estimate(model, params, (), (jnp.ones((6, 12, 5)), jnp.zeros((5, 0))))

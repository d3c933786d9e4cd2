"""Reward-modulated STDP: traces of pairs of spikes, with the published window, gated by the reward at the end."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_algorithms.reward_stdp.rule import build
from neurai_algorithms.reward_stdp.spec import RewardSTDPConfig
from neurai_core.errors import ModelError
from neurai_core.layered import dense
from neurai_core.losses import cross_entropy
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage, snn
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
CONFIG = RewardSTDPConfig(a_plus=0.3, a_minus=0.2, tau_plus=3.0, tau_minus=7.0, tau_trace=11.0)
STEPS, MIDDLE = 41, 20


def changes(losses, delays):
    """Delta w of a synapse that sees one pair of spikes per example, for examples with these losses."""
    hidden = Stage(dense(1, bias=False), LIF(0.0, reset="none"))
    model = SpikingNetwork((hidden, Stage(dense(1, bias=False), Leaky(0.0))), SuperSpike(2.0))
    params = (
        {"input": {"w": jnp.array([[0.1], [100.0]])}, "cell": {}},
        {"input": {"w": jnp.zeros((1, 1))}, "cell": {}},
    )
    t = jnp.arange(STEPS)
    pre, post = jnp.tile(t == MIDDLE, (len(losses), 1)), t == MIDDLE + jnp.asarray(delays)[:, None]
    x = jnp.stack([pre, 2.0 * post - 1], axis=-1).astype(float)
    rule = build(CONFIG, loss=lambda outputs, targets: jnp.mean(targets))
    found = jax.jit(partial(rule.estimate, model))(params, (), (x, jnp.asarray(losses)))[0]
    return -found.grads[0]["input"]["w"][0, 0]


@pytest.mark.parametrize("delay", [-9, -1, 0, 1, 9])
def test_a_pair_of_spikes_changes_a_weight_by_window_trace_and_reward(delay, x64):
    """One example has this pair; the other has none, as its neuron fires after the end."""
    window = 0.3 * np.exp(-delay / 3.0) if delay >= 0 else -0.2 * np.exp(delay / 7.0)
    left = np.exp(-(STEPS - 1 - MIDDLE - max(delay, 0)) / 11.0)  # of the trace, when the reward arrives
    reward = -(1.0 - 2.0)  # of a loss of 1, where the mean is 2
    np.testing.assert_allclose(changes([1.0, 3.0], [delay, 1000]), reward * window * left / 2, rtol=1e-10)


def test_without_a_difference_in_reward_nothing_is_learned(x64):
    np.testing.assert_allclose(changes([2.0, 2.0], [3, -3]), 0.0, atol=1e-15)


@pytest.mark.slow
def test_trials_of_an_example_teach_by_their_own_mean(x64):
    """Without a draw, all trials of an example earn the same, so the stages below the readout learn nothing."""
    model = snn((5, 7, 3), surrogate=SuperSpike(2.0), steps=8, encode="rate")
    params, _ = model.init(jax.random.key(0), (5,))
    batch = jax.random.uniform(jax.random.key(1), (4, 5)), jnp.array([0, 1, 2, 0])
    rule = build(CONFIG.model_copy(update={"trials": 3}), loss=cross_entropy)
    drawn = rule.estimate(model, params, (), batch, key=jax.random.key(2))[0].grads[0]["input"]["w"]
    certain = jnp.round(batch[0]), batch[1]  # pixels of 0 and 1 always draw the same
    same = rule.estimate(model, params, (), certain, key=jax.random.key(2))[0].grads[0]["input"]["w"]
    assert jnp.abs(drawn).max() > 1e-6 > 1e-12 > jnp.abs(same).max()


def test_networks_that_it_cannot_use_are_named():
    rule = build(CONFIG, loss=lambda outputs, targets: jnp.mean(targets))
    for model, words in [
        (
            snn((4, 3), surrogate=None),
            "Reward-modulated STDP trains stages of LIF or ALIF and a Leaky readout, got Leaky",
        ),
        (snn((4, 5, 3), surrogate=None, steps=5), "encode='constant' shows the same numbers"),
    ]:
        with pytest.raises(ModelError, match=words):
            rule.init(model, ())

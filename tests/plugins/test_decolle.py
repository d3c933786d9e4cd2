"""DECOLLE: each stage follows the gradient of its own local loss, whatever the others are."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_algorithms.decolle.rule import build
from neurai_algorithms.decolle.spec import DecolleConfig
from neurai_core.errors import ModelError
from neurai_core.layered import conv, dense
from neurai_core.losses import cross_entropy
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage, snn
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
RULE = build(DecolleConfig(), loss=cross_entropy)


def test_every_stage_follows_the_gradient_of_its_local_loss(x64):
    """By back-propagation through time of that stage alone: its traces leave nothing out but resets and recurrence."""
    hidden = (
        Stage(dense(7), LIF(0.9, synapse=0.7), recurrent=True, detach_recurrent=True),
        Stage(dense(6), LIF(0.8)),
    )
    model = SpikingNetwork((*hidden, Stage(dense(3), Leaky(0.8))), SuperSpike(2.0))
    params, _ = model.init(jax.random.key(0), (12, 5))
    x, y = 2 * jax.random.normal(jax.random.key(1), (6, 12, 5)), jnp.array([0, 1, 2, 0, 1, 2])
    state = RULE.init(model, params, key=jax.random.key(2))
    found = jax.jit(partial(RULE.estimate, model))(params, state, (x, y))[0].grads
    below = x
    for stage, own, readout, grads in zip(model.stages, params, (*state.own, jnp.eye(3)), found, strict=True):
        alone = SpikingNetwork((stage,), model.surrogate, readout="all")

        def local(own, alone=alone, readout=readout, below=below):
            outputs = alone((own,), below) @ readout
            return jnp.mean(jax.vmap(lambda each: cross_entropy(each, y), 1)(outputs))

        expected = jax.jit(jax.grad(local))(own)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15), grads, expected)
        assert expected["input"]["w"].any(), "a network without spikes proves nothing"
        below = alone((own,), below)


def test_convolutions_are_refused():
    model = SpikingNetwork((Stage(conv(2, 3), LIF()), Stage(dense(3), Leaky())), None)
    with pytest.raises(ModelError, match="DECOLLE needs dense synapses, and stage 0 has conv"):
        RULE.init(model, (), key=jax.random.key(0))
    with pytest.raises(ModelError, match="DECOLLE trains stages of LIF or ALIF and a Leaky readout, got Leaky"):
        RULE.init(snn((4, 3), surrogate=None), (), key=jax.random.key(0))

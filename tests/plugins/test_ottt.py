"""OTTT: the gradient of back-propagation through time where the paper proves it, in memory that does not grow."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.ottt.rule import build
from neurai_algorithms.ottt.spec import OTTTConfig
from neurai_core.errors import ModelError
from neurai_core.layered import avg_pool, block, conv, dense, flatten
from neurai_core.losses import accuracy, cross_entropy
from neurai_core.models import mlp
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage, snn
from neurai_core.products import product_flops
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
RULE = build(OTTTConfig(), loss=cross_entropy, accuracy=accuracy)
LEAKY, AT_ONCE = LIF(0.9, synapse=0.7), LIF(0.0, reset="none")


def network(*stages, **options):
    return SpikingNetwork(stages, SuperSpike(2.0), **options)


def problem(model, shape=(12, 5)):
    params, _ = model.init(jax.random.key(0), shape)
    x = 2 * jax.random.normal(jax.random.key(1), (6, *shape))
    return params, (x, jnp.array([0, 1, 2, 0, 1, 2]))


def estimated(model, params, batch):
    return jax.jit(partial(RULE.estimate, model))(params, (), batch)[0]


def bptt(model, params, batch):
    """The gradient of the mean of the losses of all steps."""
    x, y = batch
    traces = SpikingNetwork(model.stages, model.surrogate, "all", model.encode)
    each = lambda p: jnp.mean(jax.vmap(lambda outputs: cross_entropy(outputs, y), 1)(traces(p, x)))  # noqa: E731
    return jax.jit(jax.value_and_grad(each))(params)


def close(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15), ours, theirs)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "stages",
    [
        (Stage(dense(7), LEAKY, recurrent=True, detach_recurrent=True), Stage(dense(3), Leaky(0.0))),
        (Stage(dense(7, bias=False), LEAKY), Stage(dense(6), AT_ONCE), Stage(dense(3), Leaky(0.0))),
        (
            Stage(conv(2, 3), LIF(0.9, input_gain="complement")),
            Stage(block(avg_pool(2), flatten(), dense(3)), Leaky(0.0)),
        ),
    ],
    ids=["recurrent", "deep", "conv"],
)
def test_below_stages_without_memory_it_is_bptt(stages, x64):
    """What it leaves out is what a spike does later: nothing, if resets are detached and the stages above forget."""
    model = network(*stages)
    params, batch = problem(model, (6, 4, 4, 1) if "conv" in stages[0].synapse.name else (12, 5))
    loss, grads = bptt(model, params, batch)
    found = estimated(model, params, batch)
    close(found.grads, grads)
    np.testing.assert_allclose(found.aux["step_loss"], loss, rtol=1e-12)
    assert all(leaf.any() for leaf in jax.tree.leaves(grads)), "a network without spikes proves nothing"


@pytest.mark.parametrize("encode", [None, "constant"])
def test_the_readout_learns_by_bptt_and_other_stages_need_not(encode, x64):
    model = snn((5, 7, 3), surrogate=SuperSpike(2.0), steps=12, encode=encode or "constant")
    if encode is None:
        model = network(*model.stages)
    params, batch = problem(model, (12, 5) if encode is None else (5,))
    found, (_, grads) = estimated(model, params, batch).grads, bptt(model, params, batch)
    close(found[1], grads[1])
    assert not np.allclose(found[0]["input"]["w"], grads[0]["input"]["w"], rtol=1e-3)


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_loss_and_accuracy_are_those_of_the_forward_pass(readout, x64):
    model = network(Stage(dense(7), LEAKY), Stage(dense(3), Leaky(0.8)), readout=readout)
    params, (x, y) = problem(model)
    found = estimated(model, params, (x, y))
    np.testing.assert_allclose(found.loss, cross_entropy(model(params, x), y), rtol=1e-12)
    assert found.accuracy == accuracy(model(params, x), y)


@pytest.mark.usefixtures("optimized")
def test_its_memory_does_not_grow_with_time():
    model = snn((5, 32, 3), surrogate=SuperSpike(2.0), recurrent=True)
    params, _ = model.init(jax.random.key(0), (2, 5))

    def scratch(rule, steps):
        x = jax.ShapeDtypeStruct((16, steps, 5), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32)
        compiled = jax.jit(partial(rule, model)).lower(params, (), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert scratch(RULE.estimate, 1000) == scratch(RULE.estimate, 10)


@pytest.mark.parametrize("steps", [None, 12])
def test_it_multiplies_as_much_as_back_propagation_and_decolle_less(steps):
    """Decolle sends no errors down, and has local readouts instead."""
    model, shape = snn((5, 32, 24, 3), surrogate=SuperSpike(2.0), steps=steps), (12, 5) if steps is None else (5,)
    params, batch = problem(model, shape)

    def products(name):
        rule = neurai.algorithm(name, loss="cross_entropy")
        state = rule.init(model, params, key=jax.random.key(0))
        return product_flops(lambda params: rule.estimate(model, params, state, batch)[0].grads, params) / (2 * 6 * 12)

    assert products("ottt") == products("bp")
    assert products("decolle") == pytest.approx(products("bp") - (32 * 24 + 24 * 3) + 2 * (32 + 24) * 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mlp((4, 3)), "trains a SpikingNetwork, got a Layered"),
        (snn((4, 3), surrogate=None), "got Leaky"),
        (snn((4, 6, 3), surrogate=None, cell=LIF(reset="hard")), "stage 0 resets hard"),
        (snn((4, 6, 3), surrogate=None, readout="all"), "keeps those of every step"),
        (network(Stage(dense(6, "tanh"), LIF()), Stage(dense(3), Leaky())), "stage 0 has dense"),
        (snn((4, 6, 3), surrogate=None, cell=LIF(learn=("decay",))), "stage 0 learns decay too"),
    ],
)
def test_what_it_cannot_train_is_named(model, words):
    with pytest.raises(ModelError, match=words):
        RULE.init(model, ())
    with pytest.raises(ModelError, match=words):
        RULE.estimate(model, (), (), (jnp.ones((2, 5, 4)), jnp.zeros(2, int)))

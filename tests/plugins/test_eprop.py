"""E-prop: the gradient of back-propagation through time with the recurrent spikes' path cut, as published."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neurai_algorithms.eprop.equations import definition
from neurai_algorithms.eprop.rule import build
from neurai_algorithms.eprop.spec import EPropConfig, eprop
from neurai_core.errors import ModelError
from neurai_core.layered import dense
from neurai_core.losses import accuracy, cross_entropy
from neurai_core.models import mlp
from neurai_core.models.spiking import ALIF, LIF, Constant, Leaky, SpikingNetwork, Stage, snn
from neurai_core.rule import State
from neurai_core.specs import AlgorithmSpec
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
CELLS = {
    "LIF": LIF(0.9),
    "LIF attached": LIF(0.9, detach_reset=False),
    "LIF delayed": LIF(0.9, delay_reset=True),
    "LIF with synapse": LIF(0.9, synapse=0.7, reset="hard", detach_reset=False),
    "ALIF": ALIF(0.9, adaptation=0.3, adaptation_decay=0.95, delay_reset=True),
}
ATTACHED = ALIF(0.9, adaptation=0.3, adaptation_decay=0.95, detach_reset=False)


def network(cell, recurrent=True, bias=True, **options):
    stages = (Stage(dense(8, bias=bias), cell, recurrent), Stage(dense(3, bias=bias), Leaky(0.8, synapse=0.6)))
    return SpikingNetwork(stages, SuperSpike(2.0), **options)


def problem(model, steps=15):
    params, _ = model.init(jax.random.key(0), (steps, 5))
    x = 2 * jax.random.normal(jax.random.key(1), (6, steps, 5))
    return params, (x, jnp.array([0, 1, 2, 0, 1, 2]))


def eprop_grads(model, params, batch):
    rule = build(EPropConfig(), loss=cross_entropy)
    return jax.jit(partial(rule.estimate, model))(params, (), batch)[0]


def bptt_grads(model, params, batch):
    return jax.jit(jax.value_and_grad(lambda p: cross_entropy(model(p, batch[0]), batch[1])))(params)


def without_recurrent_path(model):
    hidden = replace(model.stages[0], detach_recurrent=True)
    return replace(model, stages=(hidden, *model.stages[1:]))


def close(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15), ours, theirs)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "readout"), [*zip(CELLS, ["mean", "last"] + 3 * ["max"], strict=True), ("ALIF", "last")]
)
def test_symmetric_feedback_is_bptt_with_the_recurrent_path_cut(name, readout, x64):
    model = network(CELLS[name], readout=readout)
    params, batch = problem(model)
    estimate = eprop_grads(model, params, batch)
    loss, grads = bptt_grads(without_recurrent_path(model), params, batch)
    close(estimate.grads, grads)
    np.testing.assert_allclose(estimate.loss, loss, rtol=1e-12)
    _, whole = bptt_grads(model, params, batch)
    assert not np.allclose(whole[0]["input"]["w"], estimate.grads[0]["input"]["w"], rtol=1e-3)


def at_once_only(model, params, x):
    """The traces of a network in which spikes reach other spiking neurons with a gradient in the same step only.

    What a stage receives, it receives twice: spikes held fixed charge the neurons that learn, and the spikes with their
    gradient charge a copy of the neurons that forgets it after the step.
    """
    stop = jax.lax.stop_gradient
    states = model.start(params, x[:, 0])
    traces = []
    for t in range(x.shape[1]):
        below, after = x[:, t], []
        for stage, own, past in zip(model.stages, params, states, strict=True):
            past = past._replace(spikes=stop(past.spikes)) if stage.recurrent else past
            kept = stage.charge(own, past, stage.project(own, stop(below)))
            if stage is not model.stages[-1]:
                passing = stage.charge(*stop((own, past)), stage.project(stop(own), below))
                shown = {name: kept[name] + passing[name] - stop(passing[name]) for name in kept}
                below, after = (
                    stage.output(own, model.surrogate, shown),
                    [*after, stage.fire(own, model.surrogate, kept)[1]],
                )
            else:
                below, last = stage.fire(own, model.surrogate, stage.charge(own, past, stage.project(own, below)))
                after.append(last)
        states = after
        traces.append(below)
    return model.read(jnp.stack(traces, axis=1))


def deep(cell=ATTACHED, below=None, recurrent=True, **options):
    stages = (
        Stage(dense(7), below or cell, recurrent),
        Stage(dense(6), cell, recurrent),
        Stage(dense(3), Leaky(0.8, synapse=0.6)),
    )
    return SpikingNetwork(stages, SuperSpike(2.0), **{"readout": "max", **options})


@pytest.mark.few(1)
@pytest.mark.parametrize("recurrent", [True, False])
def test_through_stages_it_is_bptt_with_spikes_that_act_at_once_only(recurrent, x64):
    model = deep(recurrent=recurrent)
    params, batch = problem(model, 5)
    loss, grads = jax.jit(jax.value_and_grad(lambda p: cross_entropy(at_once_only(model, p, batch[0]), batch[1])))(
        params
    )
    estimate = eprop_grads(model, params, batch)
    close(estimate.grads, grads)
    np.testing.assert_allclose(estimate.loss, loss, rtol=1e-12)


def test_below_stages_without_memory_it_is_bptt(x64):
    model = deep(LIF(0.0, reset="none"), below=ATTACHED, recurrent=False)
    params, batch = problem(model)
    close(eprop_grads(model, params, batch).grads, bptt_grads(model, params, batch)[1])


@pytest.mark.few(1)
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_through_stages_it_is_its_definition(feedback, x64):
    model, config = deep(), EPropConfig(feedback=feedback)
    params, batch = problem(model, 5)
    rule = build(config, loss=cross_entropy)
    state = rule.init(model, params, key=jax.random.key(5))
    close(
        jax.jit(partial(rule.estimate, model))(params, state, batch)[0].grads,
        jax.jit(partial(definition, config, cross_entropy, model))(params, state, batch),
    )


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("model", "feedback"),
    [
        (lambda: network(CELLS["LIF with synapse"], bias=False), "random"),
        (lambda: deep(encode=Constant(5)), "symmetric"),
        (lambda: deep(CELLS["ALIF"], below=CELLS["LIF attached"]), "symmetric"),
        (lambda: deep(LIF(0.9, reset="hard", delay_reset=True, detach_reset=False)), "symmetric"),
        (lambda: network(CELLS["LIF"], encode=Constant(1)), "symmetric"),
    ],
)
def test_both_directions_of_time_give_the_same_gradients(model, feedback, x64):
    model = model()
    params, (x, y) = problem(replace(model, encode=None), 5)
    batch = (x[:, 0] if model.encode else x), y
    found = []
    for direction in ("backward", "forward"):
        rule = build(EPropConfig(feedback=feedback, direction=direction), loss=cross_entropy)
        state = rule.init(model, params, key=jax.random.key(5))
        found.append(jax.jit(partial(rule.estimate, model))(params, state, batch)[0])
    close(found[0].grads, found[1].grads)
    np.testing.assert_allclose(found[0].loss, found[1].loss, rtol=1e-12)
    assert all(np.any(own["input"]["w"]) for own in found[0].grads)


@pytest.mark.few(1)
@pytest.mark.parametrize("bias", [True, False])
def test_without_recurrence_it_is_bptt(bias, x64):
    model = network(ATTACHED, recurrent=False, bias=bias)
    params, batch = problem(model)
    close(eprop_grads(model, params, batch).grads, bptt_grads(model, params, batch)[1])


def test_random_feedback_is_drawn_once_and_kept(x64):
    model = network(CELLS["LIF"])
    params, batch = problem(model)
    rule = build(EPropConfig(feedback="random"), loss=cross_entropy)
    state = rule.init(model, params, key=jax.random.key(5))
    assert isinstance(state, State) and [one.shape for one in state.own] == [(8, 3)]
    assert np.any(state.own[0] != rule.init(model, params, key=jax.random.key(6)).own[0])
    _, after = jax.jit(partial(rule.estimate, model))(params, state, batch)
    np.testing.assert_array_equal(after.own[0], state.own[0])


@pytest.mark.few(1)
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_it_learns(feedback):
    cells = {"cell": LIF(0.9), "output": Leaky(0.9), "readout": "max"}
    model = snn((2, 32, 2), surrogate=SuperSpike(5.0), steps=20, recurrent=True, **cells)
    params, _ = model.init(jax.random.key(0), (2,))
    x = jax.random.uniform(jax.random.key(1), (64, 2))
    y = (x[:, 0] > x[:, 1]).astype(int)
    rule, optimizer = build(EPropConfig(feedback=feedback), loss=cross_entropy, accuracy=accuracy), optax.adam(1e-2)
    state, moments = rule.init(model, params, key=jax.random.key(2)), optimizer.init(params)

    @jax.jit
    def step(params, moments):
        estimate, _ = rule.estimate(model, params, state, (x, y))
        updates, moments = optimizer.update(estimate.grads, moments)
        return optax.apply_updates(params, updates), moments, estimate.accuracy

    for _ in range(100):
        params, moments, reached = step(params, moments)
    assert reached > 0.9


def test_its_spec_says_what_it_is_and_imports_no_jax():
    spec = eprop.neurai_spec()
    assert AlgorithmSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.references[0].doi == "10.1038/s41467-020-17236-y"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mlp((4, 3)), "trains a SpikingNetwork, got a Layered"),
        (snn((4, 3), surrogate=None), "got Leaky"),
        (snn((4, 6, 3), surrogate=None, output=LIF()), "got LIF, LIF"),
        (SpikingNetwork((Stage(dense(6, "tanh"), LIF()), Stage(dense(3), Leaky())), None), "stage 0 has dense"),
        (snn((4, 6, 3), surrogate=None, cell=LIF(learn=("decay",))), "stage 0 learns decay too"),
        (snn((4, 6, 3), surrogate=None, record=True), "a network that records"),
        (snn((4, 6, 3), surrogate=None, output=Leaky(v_rest=0.1)), "another potential than 0"),
    ],
)
def test_what_it_cannot_train_is_named(model, words):
    rule = build(EPropConfig(), loss=cross_entropy)
    with pytest.raises(ModelError, match=words):
        rule.estimate(model, (), (), (jnp.ones((2, 5, 4)), jnp.zeros(2, int)))

"""Convolutions, pooling and batch norm inside spiking stages, against loops that are written out."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, avg_pool, batch_norm, block, conv, dense, flatten, max_pool
from neurai_core.losses import cross_entropy
from neurai_core.models.spiking import LIF, Constant, Leaky, SpikingNetwork, Stage
from neurai_surrogates.sigmoid.shape import Sigmoid

pytestmark = pytest.mark.usefixtures("quick_compile")
POOLS = {"average": avg_pool, "max": max_pool}
DECAY, LEAK, MOMENTUM, EPSILON = 0.8, 0.9, 0.7, 1e-3
STEPS, SHAPE = 5, (7, 8, 2)
SPIKE = Sigmoid(3.0)


def normed():
    return batch_norm(MOMENTUM, EPSILON)


def network(pool="average", norm=True, **options):
    first = block(conv(3, 3), normed(), POOLS[pool](2)) if norm else block(conv(3, 3), POOLS[pool](2))
    second = (block(POOLS[pool](2), flatten(), dense(4), normed()) if norm else block(flatten(), dense(4)),)
    stages = (Stage(first, LIF(DECAY, detach_reset=False)), Stage(*second, Leaky(LEAK)))
    return SpikingNetwork(stages, SPIKE, **({"readout": "mean"} | options))


def problem(model, shape=(STEPS, *SHAPE)):
    params, state = model.init(jax.random.key(0), shape)
    params, state = (
        jax.tree.map(lambda p: p + 0.3 * jax.random.uniform(jax.random.key(2), p.shape, p.dtype), tree)
        for tree in (params, state)
    )
    return params, state, 2 * jax.random.normal(jax.random.key(1), (6, *shape)), jnp.array([0, 1, 2, 3, 0, 1])


def convolved(own, x):
    """A 3x3 kernel on images with a border of zeros, one entry of the kernel after the other."""
    height, width = x.shape[-3:-1]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    parts = (x[..., i : i + height, j : j + width, :] @ own["w"][i, j] for i in range(3) for j in range(3))
    return sum(parts) + own["b"]


def pooled(pool, x):
    """2x2 windows side by side; the last row and column are left out where they do not fit."""
    *batch, height, width, channels = x.shape
    x = x[..., : height // 2 * 2, : width // 2 * 2, :].reshape(*batch, height // 2, 2, width // 2, 2, channels)
    if pool == "average":
        return x.mean((-4, -2))
    x = x.swapaxes(-4, -3).reshape(*batch, height // 2, width // 2, 4, channels)
    return jnp.take_along_axis(x, x.argmax(-2, keepdims=True), -2)[..., 0, :]  # the first of equal ones


def normalized(own, running, x, train):
    """Over every axis but the last."""
    axes = tuple(range(x.ndim - 1))
    mean, var = (x.mean(axes), x.var(axes)) if train else (running["mean"], running["var"])
    kept = {"mean": mean, "var": var}
    moved = {name: MOMENTUM * running[name] + (1 - MOMENTUM) * kept[name] for name in kept}
    return own["scale"] * (x - mean) / jnp.sqrt(var + EPSILON) + own["bias"], moved if train else running


def by_hand(pool, params, state, x, train):
    """Outputs and running statistics: currents of all steps, then one loop over time for every stage."""
    (first, _, _), (_, _, last, _) = (own["input"] for own in params)
    current = convolved(first, x)
    current, moved = normalized(params[0]["input"][1], state[0][1], current, train)
    current = pooled(pool, current)
    v, spikes = 0.0, []
    for t in range(STEPS):
        v = DECAY * v + current[:, t]
        spikes.append(SPIKE(v - 1))
        v = v - spikes[-1]
    below = pooled(pool, jnp.stack(spikes, 1))
    current = below.reshape(*below.shape[:2], -1) @ last["w"] + last["b"]
    current, moved_too = normalized(params[1]["input"][3], state[1][3], current, train)
    v, traces = 0.0, []
    for t in range(STEPS):
        v = LEAK * v + current[:, t]
        traces.append(v)
    return jnp.stack(traces).mean(0), (((), moved, ()), ((), (), (), moved_too))


def gradients(apply, params, x, y):
    """Loss, gradients by parameters and inputs, and the model state."""

    def loss(params, x):
        outputs, state = apply(params, x=x)
        return cross_entropy(outputs, y), state

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)


def close(a, b, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13), a, b)


@pytest.mark.few(1)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("pool", POOLS)
def test_a_batch_is_all_examples_in_all_steps(pool, train, x64):
    model = network(pool)
    params, state, x, y = problem(model)
    ours = gradients(lambda p, x: model.apply(p, state, x, train=train), params, x, y)
    close(ours, gradients(lambda p, x: by_hand(pool, p, state, x, train), params, x, y))
    if not train:
        close(model(params, x, state), ours[0][0] * 0 + by_hand(pool, params, state, x, False)[0])


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
def test_pooling_in_the_loop_is_pooling_ahead_of_it(pool, x64):
    params, _, x, y = problem(network(pool, norm=False))
    forms = ({"hoist": False}, {"hoist": True}, {"chunk": 2}, {"store": "all"})
    models = [network(pool, norm=False, **one) for one in forms]
    found = [gradients(partial(model.apply, model_state=()), params, x, y) for model in models]
    for one in found[1:]:
        close(one, found[0])


def test_single_steps_take_the_running_statistics(x64):
    model = network(record=True)
    params, state, x, _ = problem(model)
    past, traces = model.start(params, x[:, 0], state), []
    for t in range(STEPS):
        recorded, past = model.step(params, past, x[:, t], state)
        traces.append(recorded.outputs)
    close(model.read(jnp.stack(traces, 1)), model(params, x, state).outputs)


def test_the_layers_are_the_network_in_training_too(x64):
    model = network()
    params, state, x, y = problem(model)
    layered = model.layered()
    assert [layer.stateful for layer in layered.layers] == [True, True]
    made, running = layered.init(jax.random.key(0), (STEPS, *SHAPE))
    assert jax.tree.structure((made, running)) == jax.tree.structure((params, state))
    ours = gradients(lambda p, x: layered.apply(p, state, x, train=True), params, x, y)
    close(ours, gradients(lambda p, x: model.apply(p, state, x, train=True), params, x, y))


@pytest.mark.slow
def test_a_constant_input_has_the_statistics_of_its_repetition(x64):
    held, sequence = network(encode=Constant(STEPS)), network()
    params, state, x, y = problem(held, SHAPE)
    one = gradients(lambda p, x: held.apply(p, state, x, train=True), params, x, y)
    repeated = jnp.repeat(x[:, None], STEPS, 1)
    (loss, running), (by_params, by_input) = gradients(
        lambda p, x: sequence.apply(p, state, x, train=True), params, repeated, y
    )
    close(one, ((loss, running), (by_params, by_input.sum(1))), 1e-11)


def test_a_rule_learns_with_it_and_returns_what_a_step_has_seen():
    model = network()
    params, state, x, y = problem(model)
    rule = neurai.algorithm("bp", loss="cross_entropy")
    carried = rule.init(model, params, model_state=state)
    estimate, moved = jax.jit(rule.estimate, static_argnums=0)(model, params, carried, (x, y))
    _, expected = jax.jit(partial(model.apply, train=True))(params, state, x)
    assert jax.tree.structure(estimate.grads) == jax.tree.structure(params)
    close(moved, expected, 1e-5)


# ---------------------------------------------------------------------------- the layer by itself


def test_batch_norm_is_the_formula_and_its_derivatives_go_through_the_statistics(x64):
    layer = normed()
    x = jax.random.normal(jax.random.key(0), (4, 3, 5)) * 3 + 1
    params, running = {"scale": jnp.arange(1.0, 6), "bias": jnp.arange(5.0)}, layer.init(jax.random.key(0), (3, 5))[1]

    def ours(x, train=True):
        return layer.apply(params, running, x, train=train)

    def theirs(x, train=True):
        return normalized(params, running, x, train)

    close(ours(x), theirs(x))
    close(ours(x, train=False), theirs(x, train=False))
    close(jax.jacrev(lambda x: ours(x)[0])(x), jax.jacfwd(lambda x: theirs(x)[0])(x), 1e-10)


def test_batch_norm_of_16_bits_sums_in_32():
    layer = batch_norm()
    x = jnp.full((4096, 1), 3.0, jnp.bfloat16)
    params, running = layer.init(jax.random.key(0), (1,))
    y, running = layer.apply(params, running, x, train=True)
    assert y.dtype == jnp.bfloat16 and running["mean"].dtype == jnp.float32
    np.testing.assert_allclose(running["mean"], 0.3, rtol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("rule", ["bp", "pc"])
def test_rules_train_a_chain_with_batch_norm(rule):
    model = Layered((dense(6), batch_norm(), dense(3)))
    params, running = model.init(jax.random.key(0), (4,))
    x, y = jax.random.normal(jax.random.key(1), (8, 4)), jnp.arange(8) % 3
    made = neurai.algorithm(rule, loss="cross_entropy")
    state = made.init(model, params, key=jax.random.key(0), model_state=running)
    estimate, _ = made.estimate(model, params, state, (x, y), key=jax.random.key(0))
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(estimate.grads[2]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: batch_norm(1.0), r"momentum=1.0, expected a fraction in \[0, 1\)"),
        (lambda: batch_norm(epsilon=0.0), "epsilon=0.0, expected more than 0"),
        (lambda: batch_norm().init(jax.random.key(0), ()), "got single numbers"),
        (
            lambda: batch_norm().apply(*batch_norm().init(jax.random.key(0), (3,)), jnp.ones((2, 4))),
            r"batch_norm layer of 3 channels got an input of shape \(2, 4\)",
        ),
        (lambda: network(hoist=False), r"Stage 0 \(block\(conv\(3, 3\), batch_norm, .* hoist keeps"),
        (lambda: network(hoist=(True, False)), r"Stage 1 .* hoist keeps"),
        (lambda: network(chunk=3), "Stage 0 .* chunk=3 keeps"),
        (lambda: network()(problem(network())[0], jnp.ones((1, STEPS, *SHAPE))), "Stage 0 .* carries a model state"),
        (
            lambda: neurai.algorithm("eprop", loss="cross_entropy").init(network(), problem(network())[0]),
            "needs dense synapses",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(wrong, words):
    with pytest.raises(ModelError, match=words):
        wrong()

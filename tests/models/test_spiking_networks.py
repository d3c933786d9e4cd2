"""Spiking networks: every way to run one gives the same numbers, and the numbers are right."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, UnknownName
from neurai_core.grads import BP
from neurai_core.layered import Layer, avg_pool, block, conv, dense, flatten
from neurai_core.losses import accuracy, cross_entropy
from neurai_core.models.spiking import (
    ALIF,
    LIF,
    Constant,
    Delta,
    Latency,
    Leaky,
    Rate,
    Recorded,
    SpikingNetwork,
    Stage,
    euler_decay,
    exact_decay,
    of_outputs,
    over_time,
    snn,
    with_activity,
)
from neurai_core.models.spiking.hoisting import IMAGE_BYTES
from neurai_surrogates.sigmoid.shape import Sigmoid
from neurai_surrogates.stochastic_escape.shape import StochasticEscape
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.usefixtures("quick_compile")
CELLS = {
    "LIF": LIF(0.8),
    "attached": LIF(0.8, detach_reset=False),
    "hard": LIF(0.8, reset="hard", v_reset=0.1, detach_reset=False, v_rest=0.05),
    "no reset": LIF(0.8, reset="none"),
    "delayed": LIF(0.8, delay_reset=True, detach_reset=False),
    "delayed hard": LIF(0.8, delay_reset=True, detach_reset=False, reset="hard", synapse=0.5),
    "complement": LIF(0.8, input_gain="complement"),
    "synapse": LIF(0.8, synapse=0.6, detach_reset=False),
    "learned": LIF(
        0.8, synapse=0.6, learn=("decay", "synapse", "threshold"), input_gain="complement", detach_reset=False
    ),
    "ALIF": ALIF(0.8, adaptation=0.3, adaptation_decay=0.9, detach_reset=False),
    "ALIF learned": ALIF(
        0.8, adaptation=0.3, adaptation_decay=0.9, learn=("decay", "adaptation", "adaptation_decay", "threshold")
    ),
    "ALIF raised": ALIF(
        0.8,
        adaptation=0.3,
        adaptation_decay=0.9,
        raised_reset=True,
        delay_reset=True,
        detach_reset=False,
        learn=("adaptation", "threshold"),
    ),
}
READOUT = Leaky(0.9, synapse=0.5, learn=("decay", "synapse"))


def network(cell, recurrent=True, spiking=True, **options):
    stages = (Stage(dense(7), cell, recurrent), Stage(dense(6), LIF(0.9, detach_reset=False)), Stage(dense(3), READOUT))
    return SpikingNetwork(stages, Sigmoid(3.0, spiking=spiking), **({"readout": "mean"} | options))


def problem(model, steps=12):
    x = jax.random.normal(jax.random.key(1), (5, steps, 4)) * 2
    params, _ = model.init(jax.random.key(0), (steps, 4))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape, p.dtype), params)
    return params, x, jnp.array([0, 1, 2, 0, 1])


def value_and_grads(model, params, x, y):
    def loss(params, x):
        return cross_entropy(model(params, x), y)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


def close(a, b, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14), a, b)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ---------------------------------------------------------------------------- one function, many forms


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name", ["attached", "hard", "delayed", "delayed hard", "learned", "ALIF", "ALIF learned", "ALIF raised"]
)
def test_storing_membranes_alone_gives_the_gradient_of_jax(name, x64):
    reference = network(CELLS[name], store="all", hoist=False)
    expected = value_and_grads(reference, *problem(reference))
    close(value_and_grads(network(CELLS[name], hoist=(True, False, True)), *problem(reference)), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_chunks_equal_the_plain_loop_to_the_bit(x64):
    plain = network(CELLS["ALIF learned"], hoist=False)
    expected = value_and_grads(plain, *problem(plain))
    for chunk in (5, 20):  # of 12 steps: the last chunk is cut short, and one chunk holds them all
        chunked = network(CELLS["ALIF learned"], hoist=False, chunk=chunk)
        equal(value_and_grads(chunked, *problem(plain)), expected)


@pytest.mark.slow
def test_unrolling_changes_nothing(x64):
    plain, unrolled = (network(CELLS["attached"], unroll=one) for one in (1, 5))
    close(value_and_grads(unrolled, *problem(plain)), value_and_grads(plain, *problem(plain)))


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_rematerialization_by_jax_equals_the_plain_run_to_the_bit(x64):
    plain = network(CELLS["ALIF"], hoist=(True, False, True))
    params, x, y = problem(plain)
    again = jax.checkpoint(lambda params, x: plain(params, x))
    equal(value_and_grads(again, params, x, y), value_and_grads(plain, params, x, y))


@pytest.mark.parametrize("name", ["delayed hard", "ALIF learned"])
def test_the_scan_equals_a_python_loop(name, x64):
    model = network(CELLS[name], readout="all", record=True)
    params, x, _ = problem(model)
    past = [stage.start((5, n), x.dtype) for stage, n in zip(model.stages, (7, 6, 3), strict=True)]
    traces = [[], [], []]
    for t in range(x.shape[1]):
        below = x[:, t]
        for i, (stage, own) in enumerate(zip(model.stages, params, strict=True)):
            before = stage.charge(own, past[i], stage.project(own, below))
            below, past[i] = stage.fire(own, model.surrogate, before)
            traces[i].append(below)
    by_hand = tuple(jnp.stack(trace, axis=1) for trace in traces)
    spikes = jax.jit(model)(params, x).spikes
    close(spikes, by_hand)
    assert spikes[0].any(), "a network without spikes proves nothing"


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["attached", "delayed hard", "ALIF learned"])
@pytest.mark.usefixtures("optimized")
def test_steps_equal_the_plain_loop_to_the_bit(name, x64):
    model = network(CELLS[name], readout="all", record=True, hoist=False)
    params, x, _ = problem(model)
    begin = model.start(params, x[:, 0])
    scanned = jax.jit(partial(jax.lax.scan, lambda state, x: model.step(params, state, x)[::-1]))
    state, steps = scanned(begin, jnp.moveaxis(x, 1, 0))
    equal(jax.tree.map(lambda all_steps: jnp.moveaxis(all_steps, 0, 1), steps), jax.jit(model)(params, x))
    assert steps.spikes[0].any() and jax.tree.structure(state) == jax.tree.structure(begin)
    assert model.read(jnp.moveaxis(steps.outputs, 0, 1)).shape == (5, 12, 3)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["no reset", "delayed hard", "learned", "ALIF"])
def test_without_spiking_the_whole_gradient_equals_central_differences(name, x64):
    model = network(CELLS[name], spiking=False)
    params, x, y = problem(model)
    _, (grads, _) = value_and_grads(model, params, x, y)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    loss = lambda flat: cross_entropy(model(unravel(flat), x), y)  # noqa: E731
    rows = jax.random.choice(jax.random.key(3), flat.size, (20,), replace=False)
    steps = 1e-6 * jnp.eye(flat.size)[rows]
    differences = jax.jit(lambda steps: jax.lax.map(lambda h: (loss(flat + h) - loss(flat - h)) / 2e-6, steps))(steps)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(grads)[0][rows], differences, rtol=1e-6, atol=1e-9)


def test_forward_mode_is_there_where_everything_is_stored(x64):
    model = network(CELLS["attached"], store="all")
    params, x, y = problem(model)
    _, (grads, _) = value_and_grads(model, params, x, y)
    along = jax.tree.map(jnp.ones_like, params)
    rate = jax.jit(lambda p, t: jax.jvp(lambda p: cross_entropy(model(p, x), y), (p,), (t,))[1])(params, along)
    np.testing.assert_allclose(rate, sum(leaf.sum() for leaf in jax.tree.leaves(grads)), rtol=1e-10)


@pytest.mark.slow
def test_the_gradient_can_be_differentiated_again(x64):
    model, stored = network(CELLS["attached"], spiking=False), network(CELLS["attached"], spiking=False, store="all")
    params, x, y = problem(model)
    bias = params[0]["input"]["b"]

    def slope(model, b):
        changed = ({**params[0], "input": {**params[0]["input"], "b": b}}, *params[1:])
        return cross_entropy(model(changed, x), y)

    ours = jax.jit(jax.jacrev(jax.grad(lambda b: slope(model, b))))(bias)
    close(ours, jax.jit(jax.hessian(lambda b: slope(stored, b)))(bias), 1e-9)


# ---------------------------------------------------------------------------- shapes, layers, surrogates


def test_a_recurrent_path_that_is_cut_keeps_its_values_and_loses_its_gradient(x64):
    cell = CELLS["LIF"]
    whole = SpikingNetwork((Stage(dense(7), cell, True), Stage(dense(3), READOUT)), Sigmoid(3.0))
    cut = SpikingNetwork((Stage(dense(7), cell, True, True), Stage(dense(3), READOUT)), Sigmoid(3.0))
    params, x, y = problem(whole)
    (loss, (grads, _)), (loss_cut, (grads_cut, _)) = (value_and_grads(m, params, x, y) for m in (whole, cut))
    assert loss == loss_cut
    assert not np.allclose(grads[0]["input"]["w"], grads_cut[0]["input"]["w"])
    assert np.abs(grads_cut[0]["recurrent"]).max() > 0
    close(grads[1], grads_cut[1])


def convolutional(**options):
    spike = SuperSpike(10.0)
    stages = (
        Stage(conv(3, 3), LIF(0.8)),
        Stage(block(avg_pool(2), conv(4, 3)), LIF(0.8)),
        Stage(block(avg_pool(2), flatten(), dense(5)), Leaky(0.9)),
    )
    return SpikingNetwork(stages, spike, **options)


@pytest.mark.few(1)
@pytest.mark.parametrize("options", [{"hoist": True}, {"chunk": 3}])
def test_convolutions_run_through_time(options, x64):
    model, reference = convolutional(**options), convolutional(store="all", hoist=False)
    params, _ = model.init(jax.random.key(0), (6, 8, 8, 1))
    x, y = 2 * jax.random.normal(jax.random.key(1), (2, 6, 8, 8, 1)), jnp.array([0, 1])
    assert model(params, x).shape == (2, 5)
    close(value_and_grads(model, params, x, y), value_and_grads(reference, params, x, y))


@pytest.mark.parametrize(("batch", "ahead"), [(1, True), (64, False)])
def test_convolutions_run_ahead_of_their_loop_only_if_their_images_fit_into_the_cache(batch, ahead):
    model = convolutional()
    params, _ = model.init(jax.random.key(0), (6, 28, 28, 1))
    images = 28 * 28 * 3 * 6 * 4  # bytes of one example in all steps
    assert (images * batch <= IMAGE_BYTES) == ahead
    program = str(jax.make_jaxpr(model)(params, jnp.ones((batch, 6, 28, 28, 1))))
    assert (f"f32[{6 * batch},28,28,3]" in program) == ahead


@pytest.mark.few(1)
@pytest.mark.parametrize("hoist", [True, False])
def test_a_constant_input_equals_its_repetition(hoist, x64):
    spike = SuperSpike(10.0)
    held = snn((4, 6, 3), surrogate=spike, steps=9, hoist=hoist)
    sequence = snn((4, 6, 3), surrogate=spike, hoist=hoist)
    params, _ = held.init(jax.random.key(0), (4,))
    x, y = jax.random.normal(jax.random.key(1), (5, 4)), jnp.array([0, 1, 2, 0, 1])
    loss, (grads, d_x) = value_and_grads(held, params, x, y)
    loss_2, (grads_2, d_x_2) = value_and_grads(sequence, params, jnp.repeat(x[:, None], 9, axis=1), y)
    close((loss, grads, d_x), (loss_2, grads_2, d_x_2.sum(axis=1)))


def test_the_layers_are_the_network(x64):
    model = network(CELLS["attached"])
    params, x, y = problem(model)
    layered = model.layered()
    equal(jax.tree.map(jnp.shape, layered.init(jax.random.key(0), (12, 4))[0]), jax.tree.map(jnp.shape, params))
    close(value_and_grads(layered, params, x, y), value_and_grads(model, params, x, y))
    assert layered == network(CELLS["attached"]).layered()
    encoded = snn((4, 6, 3), surrogate=SuperSpike(10.0), steps=9)
    own, _ = encoded.init(jax.random.key(0), (4,))
    close(encoded.layered()(own, x[:, 0]), encoded(own, x[:, 0]))


@pytest.mark.slow
def test_a_width_can_be_traced_mapped_over_and_learned(x64):
    model = network(CELLS["LIF"])
    params, x, y = problem(model)

    def loss(alpha):
        return cross_entropy(SpikingNetwork(model.stages, SuperSpike(alpha), "mean")(params, x), y)

    def gradient_norm(alpha):
        made = SpikingNetwork(model.stages, SuperSpike(alpha), "mean")
        return optax.tree.norm(jax.grad(lambda p: cross_entropy(made(p, x), y))(params))

    alphas = jnp.array([1.0, 5.0, 25.0])
    one = jax.jit(gradient_norm)
    close(jax.jit(jax.vmap(gradient_norm))(alphas), jnp.stack([one(alpha) for alpha in alphas]), 1e-11)
    assert jnp.isfinite(jax.jit(jax.grad(loss))(2.0))


def test_the_derivative_by_a_learned_width_is_that_of_jax(x64):
    model = network(CELLS["attached"])
    params, x, y = problem(model)

    def slope(alpha, **options):
        made = SpikingNetwork(model.stages, Sigmoid(alpha, spiking=False), "mean", **options)
        return cross_entropy(made(params, x), y)

    ours, theirs = jax.jit(jax.grad(slope))(2.0), jax.jit(jax.grad(lambda alpha: slope(alpha, store="all")))(2.0)
    value = jax.jit(slope)
    difference = (value(2.0 + 1e-6) - value(2.0 - 1e-6)) / 2e-6
    np.testing.assert_allclose([ours, difference], [theirs, theirs], rtol=1e-7)


@pytest.mark.slow
def test_one_trace_per_shape():
    traces = []

    def loss(outputs, targets):
        traces.append(1)
        return cross_entropy(outputs, targets)

    bp = BP(loss)
    params, x, y = problem(network(CELLS["LIF"]))
    bp.get_grads(network(CELLS["LIF"]), params, (x, y))
    once = len(traces)
    for _ in range(5):
        bp.get_grads(network(CELLS["LIF"]), params, (x, y))
    assert len(traces) == once
    bp.get_grads(network(CELLS["LIF"]), params, (x[:3], y[:3]))
    assert len(traces) == 2 * once


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_dtype_of_the_parameters_is_kept(dtype):
    model = snn((4, 6, 3), surrogate=SuperSpike(10.0), recurrent=True)
    params, _ = model.init(jax.random.key(0), (9, 4))
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    x = jnp.ones((2, 9, 4), jnp.int8)
    grads = jax.grad(lambda p: model(p, x).astype(jnp.float32).sum())(params)
    assert model(params, x).dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}


def test_bp_trains_it_by_name_and_the_time_constants_learn():
    spike, cell = neurai.surrogate("superspike", alpha=5.0), LIF(0.8, learn=("decay",))
    model = snn((2, 24, 2), surrogate=spike, steps=20, cell=cell, output=Leaky(0.9), readout="max")
    params, _ = model.init(jax.random.key(0), (2,))
    x = jax.random.uniform(jax.random.key(1), (64, 2))
    y = (x[:, 0] > x[:, 1]).astype(int)
    rule, optimizer = neurai.algorithm("bp", loss="cross_entropy", accuracy="accuracy"), optax.adam(1e-2)
    state, began = optimizer.init(params), params

    @jax.jit
    def step(params, state):
        estimate, _ = rule.estimate(model, params, (), (x, y))
        updates, state = optimizer.update(estimate.grads, state)
        return optax.apply_updates(params, updates), state, estimate

    for _ in range(100):
        params, state, estimate = step(params, state)
    assert estimate.accuracy > 0.95
    assert not np.array_equal(params[0]["cell"]["decay"], began[0]["cell"]["decay"])


@pytest.mark.parametrize("delayed", [False, True])
def test_a_raised_reset_subtracts_the_threshold_of_the_step_in_which_it_takes_place(delayed, x64):
    """Against the loop written out; delayed as in the code of Yin et al. 2021."""
    cell = ALIF(0.8, adaptation=0.5, adaptation_decay=0.9, raised_reset=True, delay_reset=delayed)
    model = SpikingNetwork((Stage(dense(1, bias=False), cell),), SuperSpike(10.0), "all")
    v, a, spike, expected = 0.0, 0.0, 0.0, []
    for _ in range(20):
        v = 0.8 * v + 0.9 - (delayed * spike * (1 + 0.5 * a))
        spike = float(v >= 1 + 0.5 * a)
        v -= (not delayed) * spike * (1 + 0.5 * a)
        a = 0.9 * a + spike
        expected.append(spike)
    found = model(({"input": {"w": jnp.ones((1, 1))}, "cell": {}},), jnp.full((1, 20, 1), 0.9))
    assert found[0, :, 0].tolist() == expected and 2 < sum(expected) < 18


# ---------------------------------------------------------------------------- codes, readouts, losses


def test_a_rate_code_draws_from_the_key_and_repeats_without_one():
    model = snn((4, 6, 3), surrogate=SuperSpike(10.0), steps=30, encode="rate")
    params, _ = model.init(jax.random.key(0), (4,))
    x = jnp.full((2, 4), 0.5)
    equal(model(params, x), model(params, x))
    drawn = [model.apply(params, (), x, key=jax.random.key(i), train=True)[0] for i in range(2)]
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_a_latency_code_fires_once_and_the_larger_the_earlier(steps):
    x = jnp.linspace(0, 1, 21)[None]
    spikes = Latency(steps, threshold=0.1)(x)
    times = spikes.argmax(axis=1)[0]
    np.testing.assert_array_equal(spikes.sum(axis=1)[0], x[0] >= 0.1)
    fired = times[x[0] >= 0.1]
    assert (jnp.diff(fired) <= 0).all() and fired[-1] == 0 and fired[0] == steps - 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_inputs_are_coded_as_the_same_numbers_in_32(dtype):
    x = jnp.linspace(0, 1, 201).astype(dtype)[None]
    wide, sequence = x.astype(jnp.float32), x.reshape(1, 3, 67)
    for code in (Latency(1000), Latency(10_000), Rate(200), Delta(0.3)):
        given = sequence if isinstance(code, Delta) else x
        found = code(given)
        assert found.dtype == dtype
        equal(found, code(given.astype(jnp.float32)))
    equal(Latency(1000)(x).sum(axis=1), wide >= 0.01)


def test_a_small_probability_is_drawn_as_such_in_16_bits():
    probability = jnp.full((1, 100), 0.001, jnp.bfloat16)  # bfloat16 draws multiples of 1/128
    np.testing.assert_allclose(Rate(2000)(probability).astype(jnp.float32).mean(), 0.001, rtol=0.2)
    escape, u = StochasticEscape(4.0), jnp.full(200_000, -1.727, jnp.bfloat16)
    drawn = escape(u, key=jax.random.key(0)).astype(jnp.float32).mean()
    np.testing.assert_allclose(drawn, escape.primitive(u[0].astype(jnp.float32)), rtol=0.2)


def test_integers_are_coded_as_floats():
    x = jnp.array([[[0], [9], [2]]], jnp.uint8)
    assert Delta(1.0)(x).ravel().tolist() == [0, 1, -1]
    assert Latency(3)(x[:, 1]).dtype == Rate(3)(x[:, 1]).dtype == jnp.float32


@pytest.mark.parametrize("encode", ["latency", "rate"])
def test_16_bit_parameters_see_the_spikes_of_32(encode):
    model = snn((8, 3), surrogate=None, steps=1000, encode=encode)
    params, _ = model.init(jax.random.key(0), (8,))
    x = jax.random.uniform(jax.random.key(1), (2, 8))
    small = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    found = model.sequence(small, x)
    assert found.dtype == jnp.bfloat16
    equal(found, model.sequence(params, x))


def test_a_rate_code_has_the_rate_and_a_delta_code_the_changes():
    spikes = Rate(4000)(jnp.array([[0.2, 0.7]]), key=jax.random.key(0))
    np.testing.assert_allclose(spikes.mean(axis=1)[0], [0.2, 0.7], atol=0.03)
    sequence = jnp.array([[[0.0], [0.4], [0.5], [0.5], [0.0]]])
    np.testing.assert_array_equal(Delta(0.3)(sequence)[0, :, 0], [0, 1, 0, 0, -1])
    np.testing.assert_array_equal(Delta(0.3, falling=False)(sequence)[0, :, 0], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(Constant(2)(sequence[0, :2])[:, 0], sequence[0, :2])


def test_losses_over_time_read_the_traces_the_network_would():
    spike = SuperSpike(10.0)
    every = snn((4, 6, 3), surrogate=spike, steps=9, readout="all")
    params, _ = every.init(jax.random.key(0), (4,))
    x, y = jax.random.uniform(jax.random.key(1), (5, 4)), jnp.array([0, 1, 2, 0, 1])
    for readout in ("sum", "mean", "last", "max"):
        one = snn((4, 6, 3), surrogate=spike, steps=9, readout=readout)
        assert over_time("cross_entropy", readout)(every(params, x), y) == cross_entropy(one(params, x), y)


@pytest.mark.parametrize(
    ("loss", "outputs", "words"),
    [
        (over_time("cross_entropy"), jnp.zeros((2, 3)), r"over_time got outputs float32\[2,3\], expected traces"),
        (over_time("cross_entropy"), Recorded(jnp.zeros((2, 5, 3)), ()), "over_time got outputs Recorded"),
        (with_activity("cross_entropy"), jnp.zeros((2, 3)), "with_activity got outputs float32.*record=True"),
        (of_outputs("accuracy"), jnp.zeros((2, 3)), "of_outputs got outputs float32.*record=True"),
    ],
)
def test_a_loss_of_spikes_says_what_the_network_has_to_give(loss, outputs, words):
    with pytest.raises(ModelError, match=words):
        loss(outputs, jnp.zeros(2, int))


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (over_time("cross_entropy"), jnp.zeros((2, 5, 3))),
        (over_time("accuracy", "sum"), jnp.zeros((2, 5, 3))),
        (with_activity("cross_entropy"), Recorded(jnp.zeros((2, 3)), ())),
        (of_outputs("accuracy"), Recorded(jnp.zeros((2, 3)), ())),
        (of_outputs(over_time("cross_entropy")), Recorded(jnp.zeros((2, 5, 3)), ())),
    ],
)
def test_a_loss_of_spikes_refuses_what_the_loss_itself_does(loss, outputs):
    for targets, words in (
        (jnp.array([0, 3]), "label 3 in row 1"),
        (jnp.zeros((2, 1), int), r"labels of shape \(2,\)"),
    ):
        with pytest.raises(DataError, match=words):
            loss(outputs, targets)


def test_a_price_on_activity_brings_silent_and_busy_neurons_into_range():
    cells = {"cell": LIF(0.9), "output": Leaky(0.9)}
    model = snn((4, 20, 2), surrogate=SuperSpike(1.0), steps=30, record=True, readout="max", **cells)
    params, _ = model.init(jax.random.key(0), (4,))
    x, y = jax.random.uniform(jax.random.key(1), (8, 4)), jnp.zeros(8, int)
    loss = with_activity("cross_entropy", lower=2.0, upper=4.0, strength=1.0)
    rule = neurai.algorithm("bp", loss=loss, accuracy=of_outputs(accuracy))
    optimizer = optax.adam(2e-2)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        estimate, _ = rule.estimate(model, params, (), (x, y))
        updates, state = optimizer.update(estimate.grads, state)
        return optax.apply_updates(params, updates), state, estimate.accuracy

    for _ in range(150):
        params, state, reached = step(params, state)
    recorded = model(params, x)
    counts = recorded.spikes[0].sum(axis=1).mean(axis=0)
    assert isinstance(recorded, Recorded) and reached == 1
    assert counts.min() > 1 and counts.max() < 5.5


def test_without_bias_nothing_comes_of_nothing():
    model = snn((3, 4, 2), surrogate=SuperSpike(), bias=False)
    params, _ = model.init(jax.random.key(0), (6, 3))
    assert [list(own["input"]) for own in params] == [["w"], ["w"]]
    np.testing.assert_array_equal(model(params, jnp.zeros((5, 6, 3))), jnp.zeros((5, 2)))


def test_decays_of_time_constants():
    assert exact_decay(20.0, 1.0) == pytest.approx(np.exp(-1 / 20))
    assert euler_decay(20.0, 2.0) == 0.9


# ---------------------------------------------------------------------------- bad input


DROPOUT = Layer(lambda key, shape: ((), ()), lambda p, s, x, key=None, train=False: (x, s), stochastic=True)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda s: snn((4, 3), surrogate=s, steps=0), ModelError, "steps=0 is not a number of time steps"),
        (lambda s: Rate(-1), ModelError, "steps=-1"),
        (lambda s: Latency(2.5), ModelError, "steps=2.5"),
        (lambda s: Latency(5, threshold=1.0), ModelError, r"threshold=1.0, expected a value in \[0, 1\)"),
        (lambda s: Delta(0.0), ModelError, "threshold=0.0"),
        (lambda s: snn((4,), surrogate=s), ModelError, "at least the widths"),
        (lambda s: snn((4, 3), surrogate=s, steps=3, encode="latensy"), UnknownName, "Did you mean 'latency'"),
        (lambda s: snn((4, 3), surrogate=s, readout="maximum"), UnknownName, "No readout is named"),
        (lambda s: snn((4, 3), surrogate=s, chunk=0), ModelError, "chunk=0"),
        (lambda s: snn((4, 3), surrogate=s, chunk=3, store="all"), ModelError, "stores less"),
        (lambda s: snn((4, 3), surrogate=s, store="some"), ModelError, "neither 'membrane' nor 'all'"),
        (lambda s: snn((4, 3), surrogate=s, hoist=(True, False)), ModelError, "names 2 stages of 1"),
        (lambda s: SpikingNetwork((), s), ModelError, "at least one stage"),
        (lambda s: LIF(decay=20.0), ModelError, r"decay=20.0, expected a decay in \[0, 1\]"),
        (lambda s: LIF(reset="medium"), ModelError, "Resets: soft, hard, none"),
        (lambda s: LIF(learn=("tau",)), ModelError, "cannot learn 'tau'"),
        (lambda s: LIF(learn=("synapse",)), ModelError, "cannot learn 'synapse'"),
        (lambda s: LIF(decay=1.0, learn=("decay",)), ModelError, "strictly between"),
        (lambda s: Stage(DROPOUT, LIF()), ModelError, "draw random numbers"),
        (lambda s: exact_decay(0.0), ModelError, "tau=0.0 is not a duration"),
        (lambda s: with_activity("mse", lower=3.0, upper=1.0), ModelError, "lower=3.0"),
        (
            lambda s: SpikingNetwork((Stage(conv(2, 3), LIF(), True),), s).init(jax.random.key(0), (5, 4, 4, 1)),
            ModelError,
            "one axis",
        ),
        (lambda s: snn((4, 3), surrogate=s).init(jax.random.key(0), (5, 4, 1)), ModelError, "flatten"),
    ],
)
def test_bad_input_is_one_clear_error(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong(SuperSpike(10.0))


def test_inputs_and_parameters_that_do_not_fit_are_named():
    model = snn((4, 6, 3), surrogate=SuperSpike(10.0))
    params, _ = model.init(jax.random.key(0), (9, 4))
    with pytest.raises(ModelError, match=r"takes sequences \(B, T, D\), got \(5, 4\)"):
        model(params, jnp.ones((5, 4)))
    with pytest.raises(ModelError, match="params has 1 entries, expected a tuple of 2"):
        model(params[:1], jnp.ones((5, 9, 4)))
    with pytest.raises(ModelError, match="state has 1 entries, expected a tuple of 2"):
        model.step(params, model.start(params, jnp.ones((5, 4)))[:1], jnp.ones((5, 4)))
    with pytest.raises(ModelError, match=r"Stage 0 \(dense\(6\)\) cannot take an input of shape"):
        BP("cross_entropy").get_grads(model, params, (jnp.ones((5, 9, 7)), jnp.zeros(5, int)))


def test_networks_compare_by_structure():
    made = [network(cell) for cell in CELLS.values()]
    assert [network(cell) for cell in CELLS.values()] == made
    assert all(a != b for a, b in itertools.combinations(made, 2))
    assert len({hash(one) for one in made}) == len(made)


# ---------------------------------------------------------------------------- inside other libraries' modules


@pytest.mark.slow
def test_an_equinox_module_holds_it():
    eqx = pytest.importorskip("equinox")

    class Classifier(eqx.Module):
        weights: tuple
        network: SpikingNetwork = eqx.field(static=True)

        def __call__(self, x):
            return self.network(self.weights, x[None])[0]

    model = snn((4, 6, 3), surrogate=SuperSpike(10.0), recurrent=True)
    params, _ = model.init(jax.random.key(0), (9, 4))
    x = jax.random.normal(jax.random.key(1), (5, 9, 4))
    grads = eqx.filter_grad(lambda module: jax.vmap(module)(x).sum())(Classifier(params, model))
    expected = jax.grad(lambda p: model(p, x).sum())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads.weights, expected)


def test_a_flax_module_holds_it():
    linen = pytest.importorskip("flax.linen")
    model = snn((4, 6, 3), surrogate=SuperSpike(10.0), recurrent=True)

    class Classifier(linen.Module):
        @linen.compact
        def __call__(self, x):
            weights = self.param("spiking", lambda key: model.init(key, x.shape[1:])[0])
            return linen.Dense(2)(model(weights, x))

    x = jax.random.normal(jax.random.key(1), (5, 9, 4))
    module = Classifier()
    variables = module.init(jax.random.key(0), x)
    grads = jax.grad(lambda v: module.apply(v, x).sum())(variables)
    assert grads["params"]["spiking"][0]["recurrent"].shape == (6, 6)
    assert np.abs(grads["params"]["spiking"][0]["input"]["w"]).max() > 0

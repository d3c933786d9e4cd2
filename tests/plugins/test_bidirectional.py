"""Bidirectional predictive coding: what it descends on, what it reduces to, and what it can be asked."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_algorithms.bidirectional.api import BiPC
from neurai_algorithms.bidirectional.layers import reverse, two_way
from neurai_algorithms.bidirectional.rule import build
from neurai_algorithms.bidirectional.spec import BiPCConfig, EtaTrace
from neurai_algorithms.predictive_coding.rule import build as build_pc
from neurai_algorithms.predictive_coding.spec import PCConfig, PCMode
from neurai_algorithms.predictive_coding.task import half_square
from neurai_core.adapting import adapt
from neurai_core.errors import DataError, ModelError, SettingsError, UsageError
from neurai_core.layered import Layered, avg_pool, block, conv, dense, flatten, linear_layer, max_pool
from neurai_core.losses import sum_squared_error
from neurai_core.models import mlp
from neurai_core.report.generation import figures_of, made_by, rows_of

pytestmark = pytest.mark.usefixtures("quick_compile")
MODES = [mode.value for mode in (PCMode.SWEIGHT_BISTRICT, PCMode.BISTRICT)]
MLP = (mlp((6, 5, 4, 3), "tanh"), (6,))
CNN = (
    Layered((conv(3, 3, stride=2, activation="tanh"), avg_pool(2), flatten(), dense(3))),
    (8, 8, 2),
)
NETWORKS = {"mlp": MLP, "cnn": CNN}


def problem(network, mode=MODES[0], batch=5):
    model, shape = network
    model = two_way(model, shared=mode == PCMode.SWEIGHT_BISTRICT)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), shape)[0])
    params = jax.tree.map(lambda leaf: jnp.asarray(0.45 * rng.standard_normal(leaf.shape)), shapes)
    x, y = (jnp.asarray(rng.standard_normal((batch, *size))) for size in (shape, (3,)))
    return model, params, (x, y)


def estimate(model, params, batch, **settings):
    return compiled(**settings)(model, params, batch)


@cache
def compiled(**settings):
    """One program for all tests that ask for the same."""
    rule = build(BiPCConfig(**settings), loss=sum_squared_error)
    return jax.jit(lambda model, p, b: rule.estimate(model, p, (), b)[0], static_argnums=0)


def close(ours, theirs, rtol=1e-9, atol=1e-11):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, theirs)


def equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@partial(jax.jit, static_argnums=0, static_argnames="over_positions")
def written_energy(model, params, batch, hidden, alpha_f, alpha_b, precision=1.0, over_positions=False):
    """F, from its formula: every layer by its apply, nothing of the rule."""
    (x, y), (down, down_params) = batch, reverse(model, params)
    up_in, down_in = (x, *hidden), (y, *hidden[::-1])
    ups = [f.apply(p, (), v)[0] for f, p, v in zip(model.layers, params, up_in, strict=True)]
    downs = [g.apply(p, (), v)[0] for g, p, v in zip(down.layers, down_params, down_in, strict=True)]
    up = sum_squared_error(ups[-1], y) + precision * sum(half_square(p - v) for p, v in zip(ups, hidden, strict=False))
    positions = [np.prod(v.shape[1:-1]) if over_positions else 1 for v in hidden[::-1]]
    back = sum_squared_error(downs[-1], x) + sum(
        half_square(p - v) / m for p, v, m in zip(downs, hidden[::-1], positions, strict=False)
    )
    return alpha_f * up + alpha_b * back


@partial(jax.jit, static_argnums=0, static_argnames=("n", "over_positions"))
def descended(model, params, batch, n, eta=0.1, alpha_f=1.0, alpha_b=0.1, precision=1.0, **settings):
    """Gradients of F by the params after n steps of autodiff descent from the sweep up."""
    hidden, v = [], batch[0]
    for layer, own in list(zip(model.layers, params, strict=True))[:-1]:
        v = layer.apply(own, (), v)[0]
        hidden.append(v)

    def energy(hidden, params):
        return written_energy(model, params, batch, tuple(hidden), alpha_f, alpha_b, precision, **settings)

    def step(_, hidden):
        return [v - eta / precision * g for v, g in zip(hidden, jax.grad(energy)(hidden, params), strict=True)]

    hidden = jax.lax.fori_loop(0, n, step, hidden)
    return energy(hidden, params), jax.grad(energy, argnums=1)(hidden, params)


# ---------------------------------------------------------------------------- what it descends on


@pytest.mark.few(1)
@pytest.mark.parametrize(("mode", "name"), [(MODES[0], "cnn"), (MODES[1], "cnn")])
def test_the_gradients_are_those_of_the_energy_after_descent_on_it(x64, name, mode):
    model, params, batch = problem(NETWORKS[name], mode)
    ours = estimate(model, params, batch, mode=mode, n=4, eta=0.02, alpha_b=0.3, fresh=True, energy_trace=True)
    energy, grads = descended(model, params, batch, n=4, eta=0.02, alpha_b=0.3, precision=1.0)
    close(ours.grads, grads)
    np.testing.assert_allclose(ours.aux["energy_trace"][-1], energy, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), [(MODES[0], "cnn"), (MODES[1], "cnn")])
def test_hidden_layers_keep_to_the_way_up_by_the_precision(x64, name, mode):
    model, params, batch = problem(NETWORKS[name], mode)
    given = {"alpha_b": 0.3, "precision": 5.0, "eta": 0.02}
    ours = estimate(model, params, batch, mode=mode, n=4, fresh=True, energy_trace=True, **given)
    energy, grads = descended(model, params, batch, n=4, **given)
    close(ours.grads, grads)
    np.testing.assert_allclose(5 * ours.aux["energy_trace"][-1], energy, rtol=1e-12)


def test_by_default_larger_inputs_and_maps_are_brought_to_the_scale_of_the_small_ones(x64):
    model, params, batch = problem(CNN)
    ours = estimate(model, params, batch, n=3, eta=0.02, fresh=True)
    # 128 inputs are twice as many as alpha_b takes without a correction, and eight times as many as the precision does.
    given = {"alpha_b": 0.05, "precision": 8.0, "eta": 0.02, "over_positions": True}
    close(ours.grads, descended(model, params, batch, n=3, **given)[1])


def test_by_default_a_small_dense_network_is_not_corrected(x64):
    model, params, batch = problem(MLP)
    equal(estimate(model, params, batch).grads, estimate(model, params, batch, alpha_b=0.1).grads)


@pytest.mark.slow
def test_precision_takes_away_the_reward_for_mere_growth_of_the_weights(x64):
    """Of errors that no weights explain, as those of noisy labels: back-propagation leaves these weights alone."""
    model, params, (x, _) = problem((mlp((6, 5, 3), "tanh"), (6,)), batch=40)
    hidden = model.layers[0].apply(params[0], (), x)[0]
    known = jnp.concatenate([hidden, jnp.ones((40, 1))], 1)
    noise = jax.random.normal(jax.random.key(5), (40, 3))
    y = model(params, x) + noise - known @ jnp.linalg.lstsq(known, noise)[0]
    w = params[1]["up"]["w"]

    @jax.jit
    def reward(precision):
        rule = neurai.algorithm("bipc", loss="sum_squared_error", alpha_b=1e-12, precision=precision, n=400)
        return -jnp.vdot(rule.estimate(model, params, (), (x, y))[0].grads[1]["up"]["w"], w)

    assert np.abs(jax.grad(lambda p: sum_squared_error(model(p, x), y))(params)[1]["up"]["w"]).max() < 1e-9
    one, hundred, thousand = (reward(p) for p in (1.0, 100.0, 1000.0))
    assert one > 2 * hundred
    np.testing.assert_allclose(thousand, hundred / 10, rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "name", "trace"),
    [(MODES[0], "cnn", None), (MODES[1], "mlp", "momentum(0.5)"), (MODES[0], "mlp", "curvature")],
)
def test_the_energy_falls_in_every_sweep_when_the_step_is_small(x64, mode, name, trace):
    model, params, batch = problem(NETWORKS[name], mode)
    eta = 0.3 if trace == "curvature" else 0.01
    energy = estimate(model, params, batch, mode=mode, n=60, eta=eta, eta_trace=trace, energy_trace=True).aux[
        "energy_trace"
    ]
    assert energy.shape == (61,)
    assert np.all(np.diff(energy) < 0)


# ---------------------------------------------------------------------------- what it reduces to


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("mode", "name", "n"), [(MODES[0], "mlp", 1), (MODES[1], "mlp", 3), (MODES[0], "cnn", 20), (MODES[1], "cnn", 20)]
)
def test_without_a_way_down_it_is_strict_predictive_coding_to_the_bit(x64, name, mode, n):
    both, params, batch = problem(NETWORKS[name], mode)
    plain = NETWORKS[name][0]
    strict = build_pc(PCConfig(n=n), loss=sum_squared_error)
    theirs = jax.jit(lambda p, b: strict.estimate(plain, p, (), b)[0])(tuple(p["up"] for p in params), batch)
    ours = estimate(both, params, batch, mode=mode, n=n, alpha_b=0.0)
    equal(tuple(g["up"] for g in ours.grads), theirs.grads)
    assert all(not leaf.any() for g in ours.grads for leaf in jax.tree.leaves(g["down"]))
    assert ours.loss == theirs.loss


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), [(MODES[0], "cnn"), (MODES[1], "mlp")])
def test_without_a_way_up_it_is_strict_predictive_coding_of_the_reversed_network(x64, name, mode):
    both, params, (x, y) = problem(NETWORKS[name], mode)
    down, down_params = reverse(both, params)
    strict = build_pc(PCConfig(), loss=sum_squared_error)
    theirs = jax.jit(lambda p, b: strict.estimate(down, p, (), b)[0])(down_params, (y, x))
    ours = estimate(both, params, (x, y), mode=mode, alpha_f=0.0, alpha_b=1.0)
    equal(ours.grads, theirs.grads[::-1])


@pytest.mark.slow
def test_the_general_descent_tends_to_both_as_a_weight_goes_to_zero(x64):
    model, params, batch = problem(MLP, MODES[1])
    given = {"mode": MODES[1], "n": 6}
    close(
        estimate(model, params, batch, alpha_b=1e-13, **given).grads,
        estimate(model, params, batch, alpha_b=0.0, **given).grads,
    )

    @jax.jit
    def down(alpha, eta):
        rule = neurai.algorithm("bipc", loss="sum_squared_error", alpha_f=0.0, alpha_b=alpha, eta=eta, **given)
        return rule.estimate(model, params, (), batch)[0].grads

    close(jax.tree.map(lambda g: 2 * g, down(0.5, 0.2)), down(1.0, 0.1))


@pytest.mark.few(1)
@pytest.mark.parametrize("trace", ["curvature", EtaTrace(step="cosine_decay_schedule(0.2, 20)")])
def test_a_corrected_step_is_the_same_in_the_strict_limit(x64, trace):
    model, params, batch = problem(MLP)
    given = {"eta_trace": trace}
    close(
        estimate(model, params, batch, alpha_b=1e-13, **given).grads,
        estimate(model, params, batch, alpha_b=0.0, **given).grads,
    )


# ---------------------------------------------------------------------------- the way down


def test_the_reverse_of_a_dense_layer_is_its_transposed_matrix(x64):
    both, params, _ = problem(MLP)
    down, down_params = reverse(both, params)
    v = jax.random.normal(jax.random.key(4), (5, 4))
    second = params[1]
    expected = jnp.tanh(v @ second["up"]["w"].T + second["down"]["b"])
    close(down.layers[1].apply(down_params[1], (), v)[0], expected)


@pytest.mark.parametrize(("padding", "stride"), [("SAME", 2), ("VALID", 1)])
def test_the_reverse_of_a_convolution_is_the_adjoint_written_by_hand(x64, stride, padding):
    both, params, (x, _) = problem((Layered((conv(3, 3, stride, padding), flatten(), dense(3))), (7, 6, 2)))
    down, down_params = reverse(both, params)
    v = jax.random.normal(jax.random.key(4), both.layers[0].apply(params[0], (), x)[0].shape)
    w, ours = np.asarray(params[0]["up"]["w"]), down.layers[-1].apply(down_params[-1], (), v)[0]
    total = [max((out - 1) * stride + 3 - size, 0) for out, size in zip(v.shape[1:3], x.shape[1:3], strict=True)]
    top, left = (t // 2 if padding == "SAME" else 0 for t in total)
    expected = np.zeros((len(x), x.shape[1] + 4, x.shape[2] + 4, 2))
    for i, j in np.ndindex(*v.shape[1:3]):
        patch = np.einsum("bo,hwco->bhwc", np.asarray(v[:, i, j]), w)
        expected[:, i * stride : i * stride + 3, j * stride : j * stride + 3] += patch
    inside = expected[:, top : top + x.shape[1], left : left + x.shape[2]]
    scale = x[0].size / v[0].size  # what the adjoint gives back is divided by outputs per input
    close(np.asarray(ours), scale * inside + np.asarray(params[0]["down"]["b"]))


def test_the_reverse_of_average_pooling_is_its_pseudo_inverse(x64):
    both, params, _ = problem((Layered((avg_pool(2), flatten(), dense(3))), (4, 6, 2)))
    down, down_params = reverse(both, params)
    v = jax.random.normal(jax.random.key(4), (5, 2, 3, 2))
    given_back = down.layers[-1].apply(down_params[-1], (), v)[0] - params[0]["down"]["b"]
    close(both.layers[0].apply(params[0], (), given_back)[0], v)


def test_separate_weights_have_the_structure_of_the_layers_without_its_bias(x64):
    model = two_way(CNN[0], shared=False)
    params, _ = model.init(jax.random.key(0), CNN[1])
    assert jax.tree.map(jnp.shape, params[0]["down"]) == {"b": (8, 8, 2), "weights": {"b": None, "w": (3, 3, 2, 3)}}
    assert params[1]["down"]["weights"] == ()  # pooling has none
    plain, _ = CNN[0].init(jax.random.key(0), CNN[1])
    equal(tuple(p["up"] for p in params), plain)


@pytest.mark.parametrize("mode", MODES)
def test_parameters_of_a_plain_model_can_be_extended(x64, mode):
    plain, _ = MLP[0].init(jax.random.key(7), (6,))
    rule = BiPC("mse", "mse", mode=mode)
    both = rule.init(MLP[0], jax.random.key(0), (6,), params=plain)
    equal(tuple(p["up"] for p in both), plain)
    assert jax.tree.structure(both) == jax.tree.structure(rule.init(MLP[0], jax.random.key(0), (6,)))
    named = neurai.algorithm("bpc", loss="mse", mode=mode)
    equal(named.extended(MLP[0], plain, key=jax.random.key(0), input_shape=(6,))[1], both)


def test_parameters_of_half_precision_are_extended_in_their_own_type():
    equinox = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 2)
    convolution = equinox.nn.Conv2d(1, 2, 3, key=keys[0], dtype=jnp.bfloat16)  # takes inputs of its own type only
    last = equinox.nn.Linear(72, 3, key=keys[1], dtype=jnp.bfloat16)
    model = equinox.nn.Sequential([convolution, equinox.nn.Lambda(jnp.ravel), last])
    plain = adapt(model, needs="layered").split(equinox.filter(model, equinox.is_array))[0]
    both = BiPC("mse", "mse").init(model, jax.random.key(0), (1, 8, 8), params=plain)
    assert {leaf.dtype for leaf in jax.tree.leaves(both)} == {jnp.dtype(jnp.bfloat16)}


def test_one_tree_of_parameters_for_optax(x64):
    model, params, batch = problem(MLP, "bistrict")
    optimizer = optax.adamw(1e-3)
    grads = estimate(model, params, batch, mode="bistrict").grads
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert jax.tree.structure(optax.apply_updates(params, updates)) == jax.tree.structure(params)


# ---------------------------------------------------------------------------- compiling


@pytest.mark.slow
def test_one_trace_per_shape():
    traces = []

    def counted(outputs, targets):
        traces.append(outputs.shape)
        return sum_squared_error(outputs, targets)

    rule = BiPC(counted, "sum_squared_error")
    params = rule.init(MLP[0], jax.random.key(0), (6,))
    batch = jnp.ones((5, 6)), jnp.ones((5, 3))
    rule.get_grads(MLP[0], params, batch)
    first = len(traces)
    rule.get_grads(mlp((6, 5, 4, 3), "tanh"), params, batch)
    BiPC(counted, "sum_squared_error").get_grads(MLP[0], params, batch)
    # A new object looks at shapes once more, without tracing the step.
    assert len(traces) - first <= 1
    again = len(traces)
    rule.get_grads(MLP[0], params, (jnp.ones((4, 6)), jnp.ones((4, 3))))
    assert len(traces) > again


# ---------------------------------------------------------------------------- asking


@pytest.mark.parametrize("mode", MODES)
def test_what_is_asked_of_it(x64, mode):
    both, params, (x, _) = problem(CNN, mode)
    rule = BiPC("sum_squared_error", "sum_squared_error", mode=mode)
    down, down_params = reverse(both, params)
    labels = jnp.arange(3)
    close(rule.generate(CNN[0], params, labels), down(down_params, jnp.eye(3)))
    close(rule.generate(both, params, jnp.eye(3)), down(down_params, jnp.eye(3)))
    close(rule.reconstruct(CNN[0], params, x, layer=4), down(down_params, both(params, x)))
    first = both.layers[0].apply(params[0], (), x)[0]
    close(rule.reconstruct(CNN[0], params, x), down.layers[-1].apply(down_params[-1], (), first)[0])


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", MODES)
def test_filling_in_keeps_what_is_known_and_lowers_the_energy(x64, mode):
    model, params, (x, y) = problem(MLP, mode)
    rule = BiPC("sum_squared_error", "sum_squared_error", mode=mode, eta=0.05)
    seen = jnp.arange(6) < 3
    for given in ((x, None, seen), (None, y, None), (x, y, (seen, jnp.arange(3) < 1))):
        found = [rule.infer(model, params, *given, n=n) for n in (0, 200)]
        assert found[0].energy > found[1].energy
        if given[2] is seen:
            equal(found[1].x[:, :3], x[:, :3])
            assert not np.allclose(found[1].x[:, 3:], x[:, 3:])
    equal(rule.infer(model, params, x, y).x, x)
    equal(rule.infer(model, params, x, y).y, y)


@pytest.mark.slow
def test_filling_in_descends_on_the_energy_of_training(x64):
    model, params, (x, y) = problem(MLP)
    found = BiPC("sum_squared_error", "sum_squared_error").infer(model, params, x, y, n=7)
    energy = written_energy(model, params, (x, y), found.hidden, 1.0, 0.1)
    np.testing.assert_allclose(found.energy, energy, rtol=1e-12)
    trained = estimate(model, params, (x, y), n=7, energy_trace=True).aux["energy_trace"]
    np.testing.assert_allclose(found.energy, trained[-1], rtol=1e-12)


# ---------------------------------------------------------------------------- settings


def test_the_mode_gives_the_weight_of_the_way_down():
    assert BiPCConfig().weights == (1.0, 0.1)
    assert BiPCConfig(mode=PCMode.BISTRICT).weights == (1.0, 0.01)
    assert BiPC("mse", "mse", mode="BISTRICT").settings["mode"] == "bistrict"


@pytest.mark.slow
def test_texts_and_objects_correct_the_step_alike(x64):
    model, params, batch = problem(MLP)
    pairs = [
        ("adam(0.05)", optax.adam(0.05)),
        ("cosine_decay_schedule(0.2, 20)", EtaTrace(step=optax.cosine_decay_schedule(0.2, 20))),
    ]
    assert BiPCConfig(eta_trace="momentum(0.5)").eta_trace == EtaTrace(momentum=0.5)
    for text, thing in pairs:
        close(*(estimate(model, params, batch, eta_trace=trace).grads for trace in (text, thing)))
    assert BiPCConfig(eta_trace="constant").eta_trace == EtaTrace()


def test_settings_survive_json():
    rule = neurai.algorithm("bipc", loss="mse", eta_trace=EtaTrace(step="adam(0.05)", curvature=True))
    again = neurai.rebuild(rule.origin)
    assert again.origin == rule.origin


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"n": 0}, "n"),
        ({"eta": 0.0}, "eta"),
        ({"eta": float("nan")}, "eta"),
        ({"alpha_b": -1.0}, "alpha_b"),
        ({"precision": 0.0}, "precision"),
        ({"mode": "strict"}, "mode"),
        ({"eta_trace": "import os"}, "eta_trace"),
        ({"loss_scale": -1.0}, "loss_scale"),
        ({"alpha": 1.0}, "alpha"),
    ],
)
def test_a_wrong_setting_is_named(settings, what):
    with pytest.raises(SettingsError, match=what):
        BiPC("mse", "mse", **settings)


def test_both_weights_zero_leave_nothing_to_learn_from():
    with pytest.raises(SettingsError, match="alpha_f and alpha_b"):
        BiPC("mse", "mse", alpha_f=0.0, alpha_b=0.0)


@pytest.mark.parametrize("given", [{"momentum": 1.0}, {"step": 0.0}, {"step": "1 + 1"}])
def test_a_wrong_correction_is_named(given):
    with pytest.raises(SettingsError, match="EtaTrace"):
        EtaTrace(**given)


# ---------------------------------------------------------------------------- bad input


def square(params, x):
    return x * x


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (max_pool(2), r"Layer 1 \(max_pool\(2\)\)"),
        (block(conv(2, 3), avg_pool(2)), r"Layer 1 \(block"),
        (linear_layer(lambda key, shape: ((), ()), square, "identity", "square"), r"Layer 1 \(square\)"),
    ],
)
def test_a_layer_that_cannot_be_reversed_is_named(layer, name):
    model = Layered((conv(2, 3), layer, flatten(), dense(3)))
    with pytest.raises(ModelError, match=name):
        BiPC("mse", "mse").init(model, jax.random.key(0), (8, 8, 1))


def test_plain_parameters_are_refused_with_the_way_to_make_both():
    params, _ = MLP[0].init(jax.random.key(0), (6,))
    rule = BiPC("mse", "mse")
    with pytest.raises(ModelError, match=r"layer 0[^\n]*'down'[^\n]*\n.*rule.init"):
        rule.get_grads(MLP[0], params, (jnp.ones((2, 6)), jnp.ones((2, 3))))
    shared = rule.init(MLP[0], jax.random.key(0), (6,))
    with pytest.raises(ModelError, match="weights"):
        BiPC("mse", "mse", mode="bistrict").generate(MLP[0], shared, jnp.arange(3))
    with pytest.raises(ModelError, match="separate"):
        rule.generate(two_way(MLP[0], shared=False), shared, jnp.arange(3))


def test_wrong_questions_are_refused():
    rule = BiPC("mse", "mse")
    params = rule.init(MLP[0], jax.random.key(0), (6,))
    with pytest.raises(UsageError, match="layers 1 to 3"):
        rule.reconstruct(MLP[0], params, jnp.ones((2, 6)), layer=4)
    with pytest.raises(UsageError, match="neither"):
        rule.infer(MLP[0], params)
    with pytest.raises(ModelError, match="expected integer labels"):
        rule.generate(MLP[0], params, jnp.ones((2, 4)))
    with pytest.raises(DataError, match=r"label 3 in row 1, outside the classes 0\.\.2"):
        rule.generate(MLP[0], params, jnp.array([0, 3]))


def test_images_of_another_size_are_refused():
    model = Layered((conv(1, 3), conv(1, 3)))
    rule = BiPC("mse", "mse")
    params = rule.init(model, jax.random.key(0), (8, 8, 1))
    with pytest.raises(ModelError, match=r"examples of shape \(8, 8, 1\)"):
        rule.get_grads(model, params, (jnp.ones((2, 6, 6, 1)), jnp.ones((2, 6, 6, 1))))


def test_a_loss_that_is_no_scalar_is_refused():
    rule = BiPC("mse", lambda images, x: images - x)
    params = rule.init(MLP[0], jax.random.key(0), (6,))
    with pytest.raises(ModelError, match="expected one scalar"):
        rule.get_grads(MLP[0], params, (jnp.ones((2, 6)), jnp.ones((2, 3))))


# ---------------------------------------------------------------------------- learning


@pytest.mark.usefixtures("optimized")
def test_it_learns_to_classify_and_to_generate():
    data = neurai.dataset("digits")
    x, y = (jnp.asarray(a) for a in (data.x_train.reshape(len(data.x_train), -1), data.y_train))
    model, rule = mlp((64, 64, 10), "tanh"), BiPC("sum_squared_error", "sum_squared_error", "accuracy", n=10)
    params = rule.init(model, jax.random.key(0), (64,))
    optimizer = optax.adam(3e-3)

    def step(carry, rows):
        grads = rule.get_grads(model, carry[0], (x[rows], y[rows]))[0]
        updates, opt_state = optimizer.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), opt_state), None

    rows = np.random.default_rng(0).permuted(np.tile(np.arange(1280), (8, 1)), axis=1).reshape(-1, 32)
    params, _ = jax.jit(lambda carry: jax.lax.scan(step, carry, rows)[0])((params, optimizer.init(params)))
    assert rule.predict(model, params, (x, y))[1] > 0.9
    asked = rule.rule()._replace(infer=lambda *given: rule.infer(model, params, *given[2:], n=200))
    made = made_by(asked, two_way(model), params, data)
    figures = figures_of(made)
    assert figures["recognized"] >= 9 and figures["classes"] == 10
    assert figures["generation_floor"] < figures["generation_mse"] < 0.065
    assert figures["reconstruction_mse"][0] < 0.012
    assert figures["lower_half_with_label_mse"] < figures["lower_half_of_mean_image_mse"]
    rows = rows_of(made)
    assert [row.label for row in rows][:4] == ["generated", "mean of class", "test image", "from layer 1"]
    assert all(row.images.shape == (10, 64) for row in rows)

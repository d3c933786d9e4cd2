"""Predictive coding: what each mode computes, on any stack of layers, to rounding, at any depth."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurai_core as neurai
from neurai_algorithms.predictive_coding import light_cone
from neurai_algorithms.predictive_coding.api import PC
from neurai_algorithms.predictive_coding.equations import climb, definition, energy, predictions
from neurai_algorithms.predictive_coding.fixed_prediction import coefficients
from neurai_algorithms.predictive_coding.reach import ShortRelaxation
from neurai_algorithms.predictive_coding.rule import build
from neurai_algorithms.predictive_coding.spec import PCConfig, PCMode, pc
from neurai_core.layered import Layer, Layered, avg_pool, block, conv, dense, flatten, function, max_pool, residual
from neurai_core.models import cnn, mlp
from neurai_core.rule import model_state_of

pytestmark = pytest.mark.usefixtures("quick_compile")
DEEP = (20, *[128] * 19, 10)


@pytest.fixture(autouse=True, scope="module")
def registered():
    with neurai.temporary(pc, replace=True):
        yield


def mean_squares(outputs, targets):
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1)) / 2


def sum_squares(outputs, targets):
    return jnp.sum((outputs - targets) ** 2) / 2


def problem(model, shape, batch=5, seed=0, dtype=None, scale=1.0):
    params, _ = model.init(jax.random.key(seed), shape)
    draw = np.random.default_rng(seed)
    x = jnp.asarray(scale * draw.normal(size=(batch, *shape)))
    y = jnp.asarray(draw.normal(size=jax.eval_shape(model, params, x).shape))
    return jax.tree.map(lambda leaf: leaf.astype(dtype or leaf.dtype), (params, (x, y)))


def estimate(model, params, batch, loss=sum_squares, state=(), key=None, **settings):
    rule = build(PCConfig(**settings), loss=loss)
    run = jax.jit(lambda p, s, b: rule.estimate(model, p, s, b, key=key)[0])
    return run(params, state, batch)


def used(mode, **settings):
    """Those settings that a mode has a use for, with it."""
    unused = PCConfig(mode=mode).unused()
    return {"mode": mode} | {name: value for name, value in settings.items() if name not in unused}


def gradients(model, params, batch, loss=sum_squares, **settings):
    return estimate(model, params, batch, loss, **settings).grads


@partial(jax.jit, static_argnames=("model", "mode"))
def defined(model, params, batch, mode, eta, n):
    """What the definition says; eta and n are traced, so that many of them are one program."""
    config = PCConfig(mode=mode).model_copy(update={"eta": eta, "n": n})
    return definition(config, sum_squares, model, params, (), batch)


@partial(jax.jit, static_argnums=0)
def energy_at(model, params, batch, activities):
    x, y = batch
    return energy(lambda outputs: sum_squares(outputs, y), predictions(model, params, x, activities), activities)


@partial(jax.jit, static_argnums=0)
def back_propagated(model, params, batch):
    x, y = batch
    return jax.grad(lambda p: sum_squares(model(p, x), y))(params)


def close(ours, theirs, rtol=1e-9, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, theirs)


def equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def distance(a, b):
    """Relative distance |a - b| / |b| of two trees."""
    flat_a, flat_b = (np.concatenate([np.asarray(l).astype(float).ravel() for l in jax.tree.leaves(t)]) for t in (a, b))
    return float(np.linalg.norm(flat_a - flat_b) / np.linalg.norm(flat_b))


MODELS = {
    "tanh": (mlp((4, 6, 5, 3), "tanh"), (4,)),
    "relu": (mlp((4, 6, 5, 3)), (4,)),
    "gelu, sigmoid output": (Layered((dense(6, "gelu"), dense(5, "softplus"), dense(3, "sigmoid"))), (4,)),
    "cnn": (cnn((2, 3), 4, activation="tanh"), (8, 8, 1)),
    "max pooling": (Layered((conv(2, 3), max_pool(2), flatten(), dense(3, "tanh"), dense(2))), (6, 6, 1)),
    "residual": (
        Layered((dense(6, "tanh"), residual(dense(6, "relu"), dense(6)), residual(dense(6, "tanh")), dense(3))),
        (4,),
    ),
    "blocks": (Layered((block(conv(2, 3, activation="relu"), avg_pool(2), flatten()), dense(4))), (6, 6, 2)),
    "one layer": (mlp((4, 3)), (4,)),
}


# ---------------------------------------------------------------------------- strict


@pytest.mark.few(3)
@pytest.mark.parametrize(("name", "n"), [*((name, 5) for name in MODELS if name != "tanh"), ("tanh", 1)])
def test_strict_is_its_definition_on_any_layers(name, n, x64):
    model, shape = MODELS[name]
    params, batch = problem(model, shape)
    ours = gradients(model, params, batch, eta=0.2, n=n, stable=False)
    close(ours, defined(model, params, batch, "strict", 0.2, n))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("mode", ["strict", "fixed_pred"])
@pytest.mark.usefixtures("optimized")
def test_float32_gradients_of_twenty_layers_are_right_at_every_depth(mode, activation, x64):
    model = mlp(DEEP, activation)
    single, double = both_precisions(*problem(model, (20,), batch=32))
    settings = used(mode, n=20, light_cone=False, stable=activation == "relu")  # no cone: the same bits, compiled fast
    ours, true = (gradients(model, *given, mean_squares, **settings) for given in (single, double))
    shares = coefficients(0.1, 19, 20)[::-1]
    counts = [mode == "strict" or share >= 1e-6 for share in shares]
    wrong = [distance(a, b) for a, b in zip(ours, true, strict=True)]
    assert ours[0]["w"].dtype == jnp.float32 and sum(counts) >= 10
    assert all(w <= 1e-5 for w, count in zip(wrong, counts, strict=True) if count)


@pytest.mark.slow
def test_float32_gradients_of_relu_err_only_where_a_unit_passes_its_kink_within_rounding(x64):
    """Of what float32 makes of a pre-activation 1e-5 from its kink, no bit of the unit's change may be right."""
    model, seeds, n = mlp(DEEP), 8, 20
    drawn = [problem(model, (20,), batch=16, seed=3 * seed) for seed in range(seeds)]
    single, double = both_precisions(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn))
    rule = build(PCConfig(n=n, light_cone=False), loss=mean_squares)
    of_each = jax.jit(jax.vmap(lambda params, batch: rule.estimate(model, params, (), batch)[0].grads))
    ours, true = of_each(*single), of_each(*double)
    wrong = [max(distance(a, b) for a, b in zip(*both, strict=True)) for both in zip(per(ours), per(true), strict=True)]

    def nearest(params, batch):
        """The smallest pre-activation on the way, after any number of sweeps."""

        def activities(sweeps):
            eta = lambda t: jnp.where(t < sweeps, 0.1, 0.0)  # noqa: E731
            held = build(PCConfig(n=n, eta=eta, light_cone=False, keep_activities=True), loss=mean_squares)
            return held.estimate(model, params, (), batch)[0].aux["activities"]

        below = jax.vmap(activities)(jnp.arange(n + 1))
        hidden = zip(params[1:-1], below[:-1], strict=True)
        return jnp.min(jnp.stack([jnp.min(jnp.abs(v @ p["w"] + p["b"])) for p, v in hidden]))

    near = jax.jit(lambda drawn: jax.lax.map(lambda one: nearest(*one), drawn))(double)
    assert sum(w <= 1e-5 for w in wrong) >= seeds / 2
    assert all(w <= 1e-5 or distance_to_kink < 2e-5 for w, distance_to_kink in zip(wrong, near, strict=True))


def both_precisions(params, batch):
    """The same numbers in float32 and in float64."""
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, batch))
    return single, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), single)


def per(stacked):
    """One tree for every entry of the leading axis."""
    leaves, structure = jax.tree.flatten(stacked)
    return [jax.tree.unflatten(structure, entries) for entries in zip(*leaves, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n"), [*((name, 5) for name in sorted({*MODELS} - {"tanh", "relu", "blocks"})), ("tanh", 2)]
)
@pytest.mark.usefixtures("optimized")
def test_the_light_cone_changes_no_bit(name, n):
    model, shape = MODELS[name]
    params, batch = problem(model, shape)
    run = {"n": n, "stable": name != "max pooling", "keep_activities": True}
    on, off = (estimate(model, params, batch, light_cone=cone, **run) for cone in (True, False))
    equal((on.grads, on.aux), (off.grads, off.aux))


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_the_light_cone_changes_no_bit_of_twelve_layers():
    model = mlp((20, *[128] * 11, 10))
    params, batch = problem(model, (20,), batch=16)
    run = {"loss": mean_squares, "n": 17, "stable": False}
    equal(*(gradients(model, params, batch, light_cone=cone, **run) for cone in (True, False)))


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_a_cone_too_large_to_unroll_runs_in_stages(monkeypatch, x64):
    assert light_cone.stages_of(39)[:2] == [(0, 4), (4, 8)]
    monkeypatch.setattr(light_cone, "UNROLLED_VISITS", 6)
    assert light_cone.stages_of(6) == [(0, 4), (4, 6)]
    model = mlp([3] * 8, "tanh")  # 6 hidden layers
    params, batch = problem(model, (3,))
    run = {"n": 12, "eta": 0.7, "stable": False}
    on, off = (gradients(model, params, batch, light_cone=cone, **run) for cone in (True, False))
    close(on, off, rtol=1e-12, atol=0)


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "fixed_pred"])
def test_a_layer_that_no_error_has_reached_has_a_gradient_of_exactly_zero(mode):
    model = mlp((4, 5, 5, 5, 3), "tanh")
    params, batch = problem(model, (4,))
    for n in range(1, 5):
        found = gradients(model, params, batch, **used(mode, n=n, stable=False))
        norms = [distance(g, jax.tree.map(np.ones_like, g)) for g in found]
        reached = [norm != 1.0 for norm in norms]
        assert reached == [l > 4 - n for l in range(1, 5)]


@pytest.mark.slow
def test_a_small_loss_brings_strict_to_back_propagation_at_first_order(x64):
    model = mlp((6, 5, 4, 4, 3), "tanh")
    params, batch = problem(model, (6,))
    true = back_propagated(model, params, batch)
    scales = np.array([1e-2, 1e-3, 1e-4])
    run = {"n": 3000, "eta": 0.2, "light_cone": False}
    away = [distance(gradients(model, params, batch, loss_scale=s, **run), true) for s in scales]
    slope = np.polyfit(np.log(scales), np.log(away), 1)[0]
    assert slope == pytest.approx(1, abs=0.05) and away[-1] < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "incremental"])
def test_repeating_a_batch_changes_nothing_with_per_sample(mode, x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
    state = build(PCConfig(mode=mode), loss=mean_squares).init(model, params)
    run = {"loss": mean_squares, "loss_scale": "per_sample", "mode": mode, "state": state}
    once, repeated = (gradients(model, params, b, **run) for b in (batch, twice))
    close(repeated, once)


@pytest.mark.slow
def test_repeating_a_batch_doubles_the_gradients_of_a_summed_loss(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
    once, repeated = (gradients(model, params, b) for b in (batch, twice))
    close(repeated, jax.tree.map(lambda leaf: 2 * leaf, once))


def test_a_mean_loss_as_it_is_depends_on_the_batch_size(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
    once, repeated = (gradients(model, params, b, mean_squares) for b in (batch, twice))
    assert distance(repeated, once) > 1e-3


# ---------------------------------------------------------------------------- fixed predictions, exact


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "eta", "n"),
    [
        *(
            ("tanh", eta, n)
            for eta, n in [(0.001, 50), (0.05, 200), (0.5, 1), (1.0, 3), (1.3, 40), (1.9, 7), (1.99, 200)]
        ),
        *((name, 0.5, 6) for name in ("cnn", "residual", "max pooling")),
    ],
)
def test_the_closed_form_is_the_recursion(name, eta, n, x64):
    model, shape = MODELS[name]
    params, batch = problem(model, shape)
    ours = gradients(model, params, batch, mode="fixed_pred", eta=eta, n=n)
    close(ours, defined(model, params, batch, "fixed_pred", eta, n), rtol=1e-8)


def test_the_closed_form_takes_a_traced_eta_and_a_schedule(x64):
    for eta, n in itertools.product((0.05, 0.7, 1.4), (1, 5, 200)):
        static = coefficients(eta, n, 8)
        np.testing.assert_allclose(jax.jit(coefficients, static_argnums=(1, 2))(eta, n, 8), static, rtol=1e-10)
        np.testing.assert_allclose(coefficients(lambda t, eta=eta: eta, n, 8), static, rtol=1e-10)


def test_the_coefficients_are_binomial_tails(x64):
    draws = [sum(p) for p in itertools.product((0, 1), repeat=7)]  # every outcome of 7 sweeps at eta = 1/2
    tails = [np.mean([draw >= d for draw in draws]) for d in range(5)]
    np.testing.assert_allclose(coefficients(0.5, 7, 5), tails)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", MODELS)
def test_eta_one_and_as_many_sweeps_as_layers_is_back_propagation(name, x64):
    model, shape = MODELS[name]
    params, batch = problem(model, shape)
    true = back_propagated(model, params, batch)
    close(gradients(model, params, batch, mode="fixed_pred", eta=1.0, n=len(model)), true)
    close(gradients(model, params, batch, mode="exact"), true)


def test_exact_equals_the_rule_bp_to_the_bit():
    model, shape = MODELS["relu"]
    params, batch = problem(model, shape)
    bp = neurai.algorithm("bp", loss=mean_squares)
    equal(
        gradients(model, params, batch, mean_squares, mode="exact"),
        jax.jit(bp.estimate, static_argnums=0)(model, params, (), batch)[0].grads,
    )


def test_errors_and_activities_of_fixed_prediction_belong_together(x64):
    model, shape = MODELS["tanh"]
    params, (x, y) = problem(model, shape)
    found = estimate(model, params, (x, y), mode="fixed_pred", n=6, fresh=True, keep_activities=True)
    predicted = climb(model, params, x)[:-1]
    close([v - e for v, e in zip(predicted, found.aux["errors"][:-1], strict=True)], list(found.aux["activities"]))


# ---------------------------------------------------------------------------- incremental


@partial(jax.jit, static_argnums=(0, 3))
def incremental_by_hand(model, params, batch, optimizer, carry, eta, n, momentum=0.0):
    def sweep(_, moved):
        activities, speed, params, carry = moved
        slopes = jax.grad(lambda v, p: energy_at(model, p, batch, v), (0, 1))(activities, params)
        speed = [momentum * s + g for s, g in zip(speed, slopes[0], strict=True)]
        activities = [v - eta * s for v, s in zip(activities, speed, strict=True)]
        updates, carry = optimizer.update(slopes[1], carry, params)
        return activities, speed, optax.apply_updates(params, updates), carry

    activities = climb(model, params, batch[0])[:-1]
    return jax.lax.fori_loop(0, n, sweep, (activities, [0 * v for v in activities], params, carry))[2:]


@pytest.mark.few(1)
@pytest.mark.parametrize(("name", "momentum"), [("tanh", 0.5), ("cnn", 0.0)])
def test_incremental_gradients_are_the_way_the_parameters_went(name, momentum, x64):
    model, shape = MODELS[name]
    params, batch = problem(model, shape)
    moved = {"corrector": f"sgd(0.1, momentum={momentum})"} if momentum else {}
    settings = {"n": 6, "optimizer": "adam(0.01, eps_root=0.001)", **moved}
    rule = neurai.algorithm("pc", loss=sum_squares, mode="incremental", **settings)
    state = rule.init(model, params, key=None)
    optimizer = optax.adam(0.01, eps_root=0.001)  # without eps_root its root turns rounding errors into steps
    by_hand, carry = params, optimizer.init(params)
    estimated = jax.jit(lambda params, state: rule.estimate(model, params, state, batch))
    for _ in range(2):  # the optimizer's state passes from batch to batch
        found, state = estimated(params, state)
        by_hand, carry = incremental_by_hand(model, by_hand, batch, optimizer, carry, 0.1, 6, momentum)
        outer = optax.sgd(1.0)
        params = optax.apply_updates(params, outer.update(found.grads, outer.init(params))[0])
        close(params, by_hand)
    assert model_state_of(state) == () and int(state.own[0].count) == 12


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_no_incremental_step_is_made_of_rounding():
    """Adam divides by the size of the gradient: in float32 the rounding of a layer at rest would move it fully."""
    model = mlp((20, *[32] * 6, 10), "tanh")
    params, batch = problem(model, (20,), batch=16)
    rule = build(PCConfig(mode="incremental", n=4, optimizer="adam(0.01)"), loss=sum_squares)
    with pytest.warns(ShortRelaxation, match="leave 3 of 7 layers"):
        state = rule.init(model, params)
    grads = jax.jit(lambda params: rule.estimate(model, params, state, batch)[0].grads)(params)
    assert [bool(np.any(g["w"])) for g in grads] == [False] * 3 + [True] * 4


# ---------------------------------------------------------------------------- how activities move


def test_eta_may_be_a_schedule_over_the_sweeps(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    schedule = optax.exponential_decay(0.3, 1, 0.8)
    true = jax.jit(lambda p: definition(PCConfig(eta=schedule, n=9), sum_squares, model, p, (), batch))(params)
    close(gradients(model, params, batch, eta=schedule, n=9), true)


def test_a_corrector_replaces_the_plain_step(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    plain = gradients(model, params, batch, eta=0.1, n=9)
    close(gradients(model, params, batch, corrector="sgd(0.1)", n=9), plain)
    settled = gradients(model, params, batch, eta=0.1, n=2000)
    for corrector in ("sgd(0.1, momentum=0.5)", optax.chain(optax.trace(0.9, nesterov=True), optax.scale(-0.05))):
        close(gradients(model, params, batch, corrector=corrector, n=2000), settled, rtol=1e-6)
    assert distance(gradients(model, params, batch, corrector="sgd(0.1, momentum=0.5)", n=9), settled) < distance(
        plain, settled
    )


def test_tol_stops_once_the_activities_hardly_move(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    found = estimate(model, params, batch, n=5000, tol=1e-6)
    settled = estimate(model, params, batch, n=5000)
    assert 10 < found.aux["steps"] < 1000 and settled.aux["steps"] == 5000
    assert distance(found.grads, settled.grads) < 1e-4


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("mode", ["strict", "incremental"])
def test_tol_works_in_every_precision_and_for_one_layer(mode, dtype, x64):
    for name in ("tanh", "one layer"):
        model, shape = MODELS[name]
        params, batch = problem(model, shape, dtype=dtype)
        state = build(PCConfig(mode=mode), loss=sum_squares).init(model, params)
        found = estimate(model, params, batch, n=30, tol=1e-3, mode=mode, state=state)
        assert 1 <= found.aux["steps"] <= 30


@pytest.mark.slow
def test_tol_waits_until_the_first_layer_is_reached(x64):
    model = mlp((4, 5, 5, 5, 5, 3), "tanh")
    params, batch = problem(model, (4,))
    assert estimate(model, params, batch, n=50, tol=1e6).aux["steps"] == 6


@pytest.mark.slow
def test_with_a_loss_per_sample_the_steps_used_do_not_depend_on_the_batch_size(x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
    steps = {
        int(estimate(model, params, b, mean_squares, n=500, tol=1e-4, loss_scale="per_sample").aux["steps"])
        for b in (batch, twice)
    }
    assert len(steps) == 1 and 20 < steps.pop() < 500


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "incremental", "error"])
def test_tol_is_held_against_the_residual_that_the_trace_reports(mode, x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    state = build(PCConfig(mode=mode), loss=sum_squares).init(model, params)
    settings = {"mode": mode, "n": 300, "state": state}
    residual = estimate(model, params, batch, energy_trace=True, **settings).aux["trace"]["inference"]["residual"]
    tol = float(residual[40] + residual[41]) / 2
    first = int(np.argmax(residual < tol))
    taken = estimate(model, params, batch, tol=tol, **settings).aux["steps"]
    assert taken == first + (2 if mode == "strict" else 1)  # strict makes one sweep more, whose errors count


# ---------------------------------------------------------------------------- what is reported


def test_the_energy_trace_falls_and_costs_nothing_when_off(x64):
    model, shape = MODELS["tanh"]
    params, (x, y) = problem(model, shape)
    on, off = (estimate(model, params, (x, y), n=15, energy_trace=flag) for flag in (True, False))
    close(on.grads, off.grads)
    assert on.aux["energy_trace"].shape == (16,) and np.all(np.diff(on.aux["energy_trace"]) < 0)
    np.testing.assert_allclose(on.aux["energy_trace"][0], sum_squares(model(params, x), y))
    assert "energy_trace" not in off.aux and "trace" not in off.aux
    for aux in (on.aux, off.aux):  # errors are taken before the last move
        np.testing.assert_allclose(aux["energy"], on.aux["energy_trace"][-2])


def test_the_energy_trace_ends_at_the_energy_of_the_final_activities(x64):
    model, shape = MODELS["max pooling"]
    params, batch = problem(model, shape)
    found = estimate(model, params, batch, n=3, energy_trace=True, keep_activities=True)
    np.testing.assert_allclose(found.aux["energy_trace"][-1], energy_at(model, params, batch, found.aux["activities"]))
    assert estimate(model, params, batch, n=1, energy_trace=True).aux["energy_trace"].shape == (2,)


@pytest.mark.few(1)
@pytest.mark.parametrize("light_cone", [True, False])
def test_the_energy_change_is_that_of_all_sweeps_but_the_last(light_cone, x64):
    model, shape = MODELS["residual"]
    params, batch = problem(model, shape)
    trace = estimate(model, params, batch, n=9, energy_trace=True).aux["energy_trace"]
    found = estimate(model, params, batch, n=9, light_cone=light_cone)
    np.testing.assert_allclose(found.aux["energy_change"], trace[8] - trace[0])


@pytest.mark.filterwarnings("ignore::neurai_core.errors.RisingEnergy")
def test_the_energy_rises_from_a_step_beyond_what_the_weights_allow(x64):
    """One hidden layer, linear: the curvature is 1 + |W|^2, so eta has to stay below 2 / (1 + |W|^2)."""
    model = Layered((dense(4), dense(3)))
    params, batch = problem(model, (4,))
    bound = 2 / (1 + jnp.linalg.norm(params[1]["w"], 2) ** 2)

    def change(factor, stable):
        return estimate(model, params, batch, n=200, eta=float(factor * bound), stable=stable).aux["energy_change"]

    assert change(0.99, stable=False) < 0 < change(1.01, stable=False)
    assert change(1.01, stable=True) < 0


@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
def test_every_mode_reports_error_norms_and_steps(mode):
    model, shape = MODELS["relu"]
    params, batch = problem(model, shape)
    state = build(PCConfig(mode=mode), loss=sum_squares).init(model, params)
    found = estimate(model, params, batch, mode=mode, keep_activities=True, state=state)
    norms = [jnp.linalg.norm(e) for e in found.aux["errors"]]
    np.testing.assert_allclose(found.aux["error_norms"], norms, rtol=1e-6)
    assert found.aux["steps"] == (0 if mode == "exact" else 20) and len(found.aux["activities"]) == 2
    np.testing.assert_allclose(found.loss, sum_squares(model(params, batch[0]), batch[1]), rtol=1e-6)


def test_the_second_part_of_a_loss_comes_back():
    def loss(outputs, targets):
        return jnp.mean((outputs - targets) ** 2), {"mean": outputs.mean()}

    model, shape = MODELS["relu"]
    params, batch = problem(model, shape)
    for mode in ("strict", "fixed_pred", "exact", "incremental"):
        grads, _, accuracy, aux = PC(loss, mode=mode, fun_has_aux=True).get_grads(model, params, batch)
        np.testing.assert_allclose(aux["mean"], model(params, batch[0]).mean(), rtol=1e-5)
        assert accuracy == -1 and jax.tree.structure(grads) == jax.tree.structure(params)


# ---------------------------------------------------------------------------- layers of every kind


def noisy_apply(params, model_state, x, *, key=None, train=False):
    mask = jax.random.bernoulli(key, 0.5, x.shape) if train else jnp.ones(x.shape)
    return jnp.where(mask, x, 0), model_state


def centered_apply(params, model_state, x, *, key=None, train=False):
    mean = x.mean(axis=0) if train else model_state
    return x - mean, 0.5 * model_state + 0.5 * mean if train else model_state


def no_init(key, shape):
    return (), ()


def centered_init(key, shape):
    return (), jnp.zeros(shape)


DROPOUT = Layer(no_init, noisy_apply, name="dropout", stochastic=True)
CENTERING = Layer(centered_init, centered_apply, name="centering", stateful=True)


def test_a_dropout_mask_is_drawn_once_per_batch(x64):
    model = Layered((dense(6, "tanh"), DROPOUT, dense(5, "tanh"), dense(3)))
    params, _ = model.init(jax.random.key(0), (4,))
    batch = jax.random.normal(jax.random.key(1), (7, 4)), jnp.zeros((7, 3))
    run = {"key": jax.random.key(5), "keep_activities": True}
    first = estimate(model, params, batch, n=1, **run)
    assert not any(np.any(e) for e in first.aux["errors"][:-1])  # nothing moved, so nothing is wrong
    equal(estimate(model, params, batch, n=9, **run).grads, estimate(model, params, batch, n=9, **run).grads)
    with pytest.raises(neurai.errors.ModelError, match=r"Layer 1 \(dropout\) draws from a key"):
        estimate(model, params, batch)


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
def test_batch_statistics_are_updated_once_per_batch(mode, x64):
    model = Layered((CENTERING, dense(6, "tanh"), CENTERING, dense(3)))
    params, model_state = model.init(jax.random.key(0), (4,))
    batch = jax.random.normal(jax.random.key(1), (7, 4)), jnp.zeros((7, 3))
    rule = neurai.algorithm("pc", loss=sum_squares, **used(mode, n=8))
    state = rule.init(model, params, key=None, model_state=model_state)
    _, state = jax.jit(lambda params, state: rule.estimate(model, params, state, batch))(params, state)
    equal(model_state_of(state), jax.jit(lambda p: model.apply(p, model_state, batch[0], train=True)[1])(params))


@pytest.mark.slow
def test_inputs_may_be_integers():
    table = function(lambda params, x: params[x], init=lambda key, shape: jax.random.normal(key, (11, 6)))
    model = Layered((table, dense(5, "tanh"), dense(3)))
    params = (jax.random.normal(jax.random.key(0), (11, 6)), *mlp((6, 5, 3)).init(jax.random.key(0), (6,))[0])
    batch = jnp.arange(8), jnp.zeros((8, 3))
    for mode in ("strict", "fixed_pred", "exact", "incremental"):
        grads = PC(sum_squares, mode=mode).get_grads(model, params, batch)[0]
        assert jnp.abs(grads[0]).sum() > 0


class Squares:
    """x^2 as a layer that brings its own difference."""

    def __call__(self, params, model_state, x, *, key=None, train=False):
        return x * x, model_state

    def difference(self, params, model_state, x, d, *, key=None, train=False):
        return d * (2 * x + d)


def test_a_layer_may_bring_its_own_difference(x64):
    """Errors of 1e-12 survive in float32 with it, and are lost without it."""
    plain = Layer(no_init, lambda p, s, x, *, key=None, train=False: (x * x, s))
    exact, lossy = (Layered((dense(6, "tanh"), square, dense(3))) for square in (Layer(no_init, Squares()), plain))
    params, batch = problem(exact, (4,), dtype=jnp.float32)
    run = {"loss_scale": 1e-12, "n": 9}
    true = gradients(exact, *jax.tree.map(lambda a: a.astype(jnp.float64), (params, batch)), **run)
    assert distance(gradients(exact, params, batch, **run), true) < 1e-5
    assert distance(gradients(lossy, params, batch, **run)[0], true[0]) > 1e-2


# ---------------------------------------------------------------------------- numbers, memory, compiling


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
@pytest.mark.usefixtures("optimized")
def test_bfloat16_keeps_activities_and_errors_in_float32(mode):
    model = mlp((20, *[32] * 4, 10), "tanh")
    single = problem(model, (20,), batch=16)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), single)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    run = {"loss": mean_squares, **used(mode, n=7, keep_activities=True, optimizer="sgd(0.1)")}
    with pytest.warns(ShortRelaxation) if mode not in ("exact", "incremental") else contextlib.nullcontext():
        state = build(PCConfig(**used(mode, n=7)), loss=mean_squares).init(model, half[0])
    found, true = (estimate(model, *given, state=state, **run) for given in (half, single))
    assert all(g.dtype == jnp.bfloat16 for g in jax.tree.leaves(found.grads))
    if mode == "strict":
        assert all(v.dtype == jnp.float32 for v in jax.tree.leaves((found.aux["activities"], found.aux["errors"])))
    if mode != "incremental":  # steps below the precision of bfloat16 parameters are lost
        assert all(distance(a, b) < 0.1 for a, b in zip(found.grads, true.grads, strict=True))


@pytest.mark.slow
def test_remat_changes_no_gradient(x64):
    model = Layered((dense(6, "tanh"), residual(dense(6, "relu"), dense(6)), dense(3)))
    params, batch = problem(model, (4,))
    for mode in ("strict", "fixed_pred", "exact", "incremental"):
        state = build(PCConfig(mode=mode), loss=sum_squares).init(model, params)
        kept, again = (gradients(model, params, batch, mode=mode, state=state, remat=flag) for flag in (False, True))
        close(again, kept)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_remat_saves_memory_when_the_relaxation_is_differentiated():
    model = Layered((dense(32), *[residual(dense(32, "tanh"), dense(32, "tanh"))] * 2, dense(3)))
    params, batch = problem(model, (4,), batch=64)

    def memory(remat):
        def final_energy(eta):
            config = PCConfig(n=60, remat=remat, light_cone=False, stable=False).model_copy(update={"eta": eta})
            found, _ = build(config, loss=sum_squares).estimate(model, params, (), batch)
            return found.aux["error_norms"].sum()

        return jax.jit(jax.grad(final_energy)).lower(0.1).compile().memory_analysis().temp_size_in_bytes

    assert memory(True) < 0.6 * memory(False)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "incremental"])
def test_eta_may_be_mapped_over(mode, x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)

    def of(eta):
        rule = neurai.algorithm("pc", loss=sum_squares, mode=mode, eta=eta, n=6)
        return rule.estimate(model, params, rule.init(model, params, key=None), batch)[0].grads

    mapped = jax.jit(jax.vmap(of))(jnp.array([0.05, 0.3]))
    each = jax.jit(lambda: [of(0.05), of(0.3)])()
    for one, alone in zip(per(mapped), each, strict=True):
        close(one, alone, rtol=1e-8)


@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
def test_one_trace_per_shape(mode):
    traces = []

    def loss(outputs, targets):
        traces.append(1)
        return jnp.mean((outputs - targets) ** 2)

    params, batch = problem(mlp((4, 6, 3)), (4,))
    method = PC(loss, mode=mode)
    method.get_grads(mlp((4, 6, 3)), params, batch)
    first = len(traces)
    for _ in range(9):
        method.get_grads(mlp((4, 6, 3)), params, batch)
    assert len(traces) == first
    PC(loss, mode=mode).get_grads(mlp((4, 6, 3)), params, batch)
    assert len(traces) == first + 1  # a new object checks the shapes of its first batch, and compiles nothing


LAYERS = st.sampled_from(
    [dense(4, "tanh"), dense(3, "relu"), dense(5, "softplus"), residual(dense(4, "tanh"), dense(4)), dense(4)]
)


def fits(layers):
    try:
        Layered(layers).init(jax.random.key(0), (4,))
    except neurai.errors.ModelError:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(
    layers=st.lists(LAYERS, min_size=1, max_size=4).filter(fits),
    batch=st.integers(1, 5),
    n=st.integers(1, 5),
    eta=st.floats(0.05, 0.5),
    seed=st.integers(0, 9),
)
def test_any_stack_of_layers_without_jit_is_its_definition(layers, batch, n, eta, seed):
    with jax.enable_x64(True):
        model = Layered(layers)
        params, batch = problem(model, (4,), batch, seed)
        for mode in ("strict", "fixed_pred"):
            rule = build(PCConfig(mode=mode, n=n, eta=eta).model_copy(update={"stable": False}), loss=sum_squares)
            true = defined(model, params, batch, mode, eta, n)
            close(rule.estimate(model, params, (), batch)[0].grads, true, rtol=1e-7)


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(
    layers=st.lists(LAYERS, min_size=2, max_size=3).filter(fits),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
    batch=st.integers(1, 5),
    n=st.integers(2, 5),
)
@pytest.mark.usefixtures("optimized")
def test_the_light_cone_changes_no_bit_of_any_stack_and_only_the_last_ones_in_bfloat16(layers, dtype, batch, n):
    model = Layered(layers)
    params, data = problem(model, (4,), batch, dtype=dtype)
    on, off = (gradients(model, params, data, n=n, light_cone=cone) for cone in (True, False))
    if dtype == jnp.float32:
        return equal(on, off)
    # The compiler may keep more bits between two operations of the one program than of the other.
    on, off = (jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grads) for grads in (on, off))
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(off))
    close(on, off, rtol=0.05, atol=0.05 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
def test_compiled_and_not_compiled_agree(mode, x64):
    model, shape = MODELS["tanh"]
    params, batch = problem(model, shape)
    rule = build(PCConfig(**used(mode, n=5, eta=0.5)), loss=sum_squares)
    state = rule.init(model, params)
    plain = rule.estimate(model, params, state, batch)
    compiled = jax.jit(lambda p, s, b: rule.estimate(model, p, s, b))(params, state, batch)
    close(jax.tree.leaves(compiled), jax.tree.leaves(plain))


@settings(max_examples=5, deadline=None)
@given(
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
    batch=st.integers(1, 4),
    mode=st.sampled_from(["strict", "fixed_pred", "exact"]),
    name=st.sampled_from(["tanh", "cnn", "residual"]),
)
def test_gradients_have_the_structure_shapes_and_dtypes_of_the_parameters(dtype, batch, mode, name):
    model, shape = MODELS[name]
    params, data = problem(model, shape, batch, dtype=dtype)
    grads = jax.eval_shape(lambda: build(PCConfig(mode=mode), loss=mean_squares).estimate(model, params, (), data))[0]
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (grads.grads, params))
    assert described[0] == described[1]


def test_the_modes_have_the_documented_names():
    assert [mode.name for mode in PCMode][:4] == ["STRICT", "FIXED_PRED", "EXACT", "INCREMENTAL"]
    assert PC("mse").settings["mode"] == PCMode.STRICT and PC("mse").settings["n"] == 20


def test_one_layer_has_nothing_that_relaxes_in_any_mode(x64):
    model = mlp((4, 3))
    params, batch = problem(model, (4,))
    for mode in ("strict", "error", "fixed_pred"):
        close(gradients(model, params, batch, mode=mode), back_propagated(model, params, batch))

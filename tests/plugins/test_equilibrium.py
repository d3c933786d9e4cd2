"""Equilibrium propagation as a tool: options, shapes, compiled once, kind when it fails."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from equilibrium_oracle import distance, flat, problem
from hypothesis import given, settings
from hypothesis import strategies as st

import neurai_core as neurai
from neurai_algorithms.equilibrium.api import EP
from neurai_algorithms.equilibrium.spec import EPConfig, EPMode
from neurai_core.energy import Energy, chain_of, half_squares
from neurai_core.errors import (
    ModelError,
    UnknownName,
)
from neurai_core.grads import BP
from neurai_core.layered import Layered, avg_pool, conv, dense, flatten, function, linear_layer, max_pool, residual
from neurai_core.models import mlp
from neurai_core.registry import REGISTRY
from neurai_core.rule import State

HOPFIELD = {"energy": "hopfield", "activation": "sigmoid", "dt": 0.5}
SHALLOW = (6, 5, 3)  # for claims that say nothing of layers with neighbours that are activities on both sides
pytestmark = pytest.mark.usefixtures("quick_compile")


def small(energy="hopfield", **options):
    base = HOPFIELD if energy == "hopfield" else {"energy": energy}
    return EP("squared_error", **(base | {"n_relax": 10} | options))


def estimated(rule, *arguments):
    return jax.jit(rule.estimate, static_argnums=0)(*arguments)


# ---------------------------------------------------------------------------- the documented class


def test_it_returns_gradients_accuracy_loss_and_energy(x64):
    model, params, batch = problem()
    grads, accuracy, loss, energy = EP("cross_entropy", "accuracy").get_grads(model, params, batch)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert [leaf.shape for leaf in jax.tree.leaves(grads)] == [leaf.shape for leaf in jax.tree.leaves(params)]
    _, forward_loss, forward_accuracy = BP("cross_entropy", "accuracy").get_grads(model, params, batch)
    np.testing.assert_allclose(loss, forward_loss, rtol=1e-6)
    assert accuracy == forward_accuracy
    assert 0 < energy < loss  # F(1) - F(0) is at most C at rest


def test_predict_of_gaussian_is_the_models_forward_pass(x64):
    model, params, batch = problem()
    assert EP("mse", "accuracy").predict(model, params, batch) == BP("mse", "accuracy").predict(model, params, batch)


def test_predict_of_hopfield_is_the_free_state(x64):
    model, params, batch = problem()
    method = small()
    loss, accuracy = method.predict(model, params, batch)
    np.testing.assert_allclose(loss, method.get_grads(model, params, batch)[2], rtol=1e-5)
    assert accuracy == -1


@pytest.mark.slow
def test_normal_fun_makes_zeros_and_may_be_replaced(x64):
    np.testing.assert_array_equal(EP("mse").normal_fun((2, 3), jnp.int32), np.zeros((2, 3), np.int32))

    class Ones(EP):
        @staticmethod
        def normal_fun(shape, dtype=None):
            return jnp.ones(shape, dtype)

    model, params, batch = problem()
    ones = tuple(jnp.ones((4, p["b"].size)) for p in params)
    started = Ones("squared_error", **HOPFIELD, n_relax=10).get_grads(model, params, batch)[0]
    assert distance(started, small(init=ones).get_grads(model, params, batch)[0]) < 1e-6


def test_defaults_are_the_documented_ones():
    assert EP("mse").settings == {
        "beta": 1.0,
        "dt": 0.1,
        "n_relax": 20,
        "tau": 1.0,
        "tol": 0.0,
        "mode": EPMode.TWO_PHASE,
        "activation": None,
        "energy": "gaussian",
        "init": None,
        "order": "synchronous",
        "coordinates": "activities",
        "n_points": 2,
        "linearized": False,
        "n_nudged": None,
        "check_every": 1,
        "stable": True,
    }


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["gaussian-symmetric", "hopfield-symmetric"])
def test_presets_are_settings_of_the_class(name):
    model, params, batch = problem()
    grads = EP.preset(name, n_relax=20).get_grads(model, params, batch)[0]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert EP.preset(name, beta=0.25).settings["beta"] == 0.25


def test_an_unknown_preset_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'hopfield-digits'"):
        EP.preset("hopfield-digit")


def test_the_rule_and_the_class_agree(x64):
    model, params, batch = problem()
    settings = HOPFIELD | {"mode": "symmetric", "beta": 0.3, "order": "even_odd", "n_relax": 10}
    rule = neurai.algorithm("ep", loss="squared_error", **settings)
    estimate, state = jax.jit(rule.estimate, static_argnums=0)(model, params, (), batch)
    grads, _, loss, energy = EP("squared_error", **settings).get_grads(model, params, batch)
    jax.tree.map(np.testing.assert_array_equal, estimate.grads, grads)
    assert (estimate.loss, estimate.aux["energy"], state) == (loss, energy, ())
    again = neurai.rebuild(rule.origin.from_json(rule.origin.to_json().replace("in this process", "neurai")))
    assert again.origin.settings == rule.origin.settings


def test_the_config_survives_json():
    config = EPConfig(mode="random-sign", energy="package.module:Mine", tol=1e-3)
    assert EPConfig.model_validate_json(config.model_dump_json()) == config
    assert config.mode is EPMode.RANDOM_SIGN


# ---------------------------------------------------------------------------- options


@pytest.mark.slow
def test_an_early_stop_costs_fewer_steps_and_changes_little(x64):
    model, params, batch = problem()
    plain = small(n_relax=200).get_grads(model, params, batch)[0]
    rule = neurai.algorithm("ep", loss="squared_error", **HOPFIELD, n_relax=200, tol=1e-5, check_every=5)
    estimate, _ = estimated(rule, model, params, (), batch)
    assert distance(estimate.grads, plain) < 1e-3
    assert estimate.aux["steps_free"] % 5 == 0 and estimate.aux["steps_free"] < 100
    assert max(estimate.aux["residual"], estimate.aux["residual_free"]) < 1e-5


@pytest.mark.slow
def test_the_early_stop_does_not_depend_on_the_batch_size(x64):
    model, params, (x, y) = problem()
    rule = neurai.algorithm("ep", loss="squared_error", **HOPFIELD, n_relax=200, tol=1e-3)
    one = estimated(rule, model, params, (), (x, y))[0].aux
    many = estimated(rule, model, params, (), (jnp.tile(x, (5, 1)), jnp.tile(y, (5, 1))))[0].aux
    assert (one["steps_free"], one["steps_nudged"]) == (many["steps_free"], many["steps_nudged"])


def test_a_tolerance_that_is_never_reached_is_no_tolerance(x64):
    model, params, batch = problem()
    plain = small().get_grads(model, params, batch)[0]
    looked = small(tol=1e-300, check_every=4).get_grads(model, params, batch)[0]
    assert distance(looked, plain) < 1e-12


def test_both_orders_settle_in_the_same_state(x64):
    model, params, batch = problem()
    one, other = (
        small(n_relax=200, order=order).get_grads(model, params, batch)[0] for order in ("synchronous", "even_odd")
    )
    assert distance(one, other) < 1e-12


def test_a_projected_hard_sigmoid_settles_inside_the_unit_interval(x64):
    model, params, batch = problem(scale=3.0)
    rule = neurai.algorithm(
        "ep", loss="squared_error", energy="hopfield", activation="hard_sigmoid", dt=1.0, order="even_odd", n_relax=100
    )
    estimate, _ = estimated(rule, model, params, (), batch)
    settled = neurai.rebuild(
        rule.origin.from_json(rule.origin.to_json().replace("in this process", "neurai")), n_relax=101
    )
    outputs, later = jax.jit(lambda p, x: [one.predict(model, p, x) for one in (rule, settled)])(params, batch[0])
    assert estimate.aux["residual_free"] > 0  # forces point out of the interval where activities are at its ends
    assert outputs.min() >= 0 and outputs.max() <= 1
    np.testing.assert_allclose(later, outputs, atol=1e-12)


def test_a_schedule_of_dt_is_called_with_the_number_of_the_step(x64):
    model, params, batch = problem()
    constant = small(dt=lambda t: 0.5 + 0.0 * t).get_grads(model, params, batch)[0]
    assert distance(constant, small().get_grads(model, params, batch)[0]) < 1e-12
    falling = small(dt=lambda t: 0.5 / (1 + t)).get_grads(model, params, batch)[0]
    assert distance(falling, constant) > 1e-3


def test_only_the_ratio_of_dt_and_tau_matters(x64):
    model, params, batch = problem()
    one, other = (small(dt=dt, tau=tau).get_grads(model, params, batch)[0] for dt, tau in ((0.5, 1), (1.0, 2)))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_given_activities_are_where_the_free_phase_starts(x64):
    model, params, batch = problem()
    zeros = tuple(jnp.zeros((4, p["b"].size)) for p in params)
    started = small(init=zeros).get_grads(model, params, batch)[0]
    assert distance(started, small(init="zeros").get_grads(model, params, batch)[0]) < 1e-12


def test_persistent_activities_go_on_where_the_last_batch_ended(x64):
    model, params, batch = problem(sizes=SHALLOW)
    method = small(init="persistent")
    first = method.get_grads(model, params, batch)
    assert [u.shape for u in method.activities] == [(4, 5), (4, 3)]
    second = method.get_grads(model, params, batch)[0]
    longer = small(n_relax=20, n_nudged=10).get_grads(model, params, batch)
    assert distance(second, longer[0]) < 1e-12
    assert distance(first[0], second) > 1e-9
    method.get_grads(model, params, (batch[0][:2], batch[1][:2]))
    assert len(method.activities[0]) == 2


def test_persistent_activities_travel_in_the_state_of_the_rule(x64):
    model, params, batch = problem(sizes=SHALLOW)
    rule = neurai.algorithm("ep", loss="squared_error", **HOPFIELD, init="persistent", n_relax=10)
    state = rule.init(model, params, key=jax.random.key(0))
    assert state == State((), ())
    _, state = estimated(rule, model, params, state, batch)
    estimate, _ = estimated(rule, model, params, state, batch)
    longer = small(n_relax=20, n_nudged=10).get_grads(model, params, batch)[0]
    assert distance(estimate.grads, longer) < 1e-12


def test_normal_activities_and_random_signs_come_from_the_key(x64):
    model, params, batch = problem()
    for method in (small(init="normal", mode="symmetric", beta=0.5), small(mode="random_sign", beta=0.5)):
        drawn = [flat(method.get_grads(model, params, batch, key=jax.random.key(k))[0]) for k in (0, 0, 1, 2, 3)]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert any(np.any(one != drawn[0]) for one in drawn[2:])


@pytest.mark.slow
def test_repeat_averages_independent_estimates(x64):
    model, params, batch = problem()
    method = small(mode="random_sign", beta=0.5)
    key = jax.random.key(3)
    mean = method.get_grads(model, params, batch, repeat=4, key=key)[0]
    singles = [flat(method.get_grads(model, params, batch, key=k)[0]) for k in jax.random.split(key, 4)]
    np.testing.assert_allclose(flat(mean), np.mean(singles, axis=0), rtol=1e-12, atol=1e-15)


def test_repeat_of_what_draws_nothing_is_one_estimate(x64):
    model, params, batch = problem()
    once, twice = (small().get_grads(model, params, batch, repeat=n)[0] for n in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, once, twice)


def test_continual_ends_where_one_step_of_sgd_with_its_gradients_ends(x64):
    model, params, batch = problem()
    optim = optax.sgd(1e-2)
    rule = REGISTRY.create(
        "algorithm",
        "ep",
        {"loss": neurai.grads.BP("squared_error").loss_f, "optimizer": optim},
        HOPFIELD | {"mode": "continual"},
    )
    state = rule.init(model, params, key=jax.random.key(0))
    estimate, state = estimated(rule, model, params, state, batch)
    moved = optax.apply_updates(params, optim.update(estimate.grads, optim.init(params))[0])
    assert distance(moved, estimate.aux["params"]) < 1e-14
    assert jax.tree.structure(state.own) == jax.tree.structure(optim.init(params))
    grads = EP("squared_error", **HOPFIELD, mode="continual").get_grads(
        model, params, batch, optim, optim.init(params)
    )[0]
    assert distance(grads, estimate.grads) < 1e-12


@pytest.mark.slow
def test_continual_with_resting_weights_is_two_phase(x64):
    model, params, batch = problem()
    optim = optax.sgd(0.0)
    grads = small(mode="continual").get_grads(model, params, batch, optim, optim.init(params))[0]
    assert distance(grads, small().get_grads(model, params, batch)[0]) < 1e-12


def test_the_second_part_of_a_loss_does_not_disturb(x64):
    def loss(outputs, targets):
        return jnp.mean((outputs - targets) ** 2), outputs.mean()

    model, params, batch = problem()
    paired = EP(loss, fun_has_aux=True).get_grads(model, params, batch)[0]
    assert distance(paired, EP("mse").get_grads(model, params, batch)[0]) < 1e-5


@pytest.mark.slow
def test_any_loss_nudges_and_closed_forms_agree_with_differentiation(x64):
    def as_written(outputs, targets):
        logs = outputs - jnp.log(jnp.sum(jnp.exp(outputs), axis=1, keepdims=True))
        return -jnp.mean(jnp.sum(targets * logs, axis=1))

    model, params, batch = problem(sizes=SHALLOW)
    closed, differentiated = (
        EP(f, mode="holomorphic", beta=0.3, n_points=3).get_grads(model, params, batch)[0]
        for f in ("cross_entropy", as_written)
    )
    assert distance(closed, differentiated) < 1e-12


def test_keywords_go_to_the_loss():
    def loss(outputs, targets, weight=1.0):
        return weight * jnp.mean((outputs - targets) ** 2)

    model, params, batch = problem()
    method = EP(loss, mode="symmetric", beta=1e-2)
    single, double = (method.get_grads(model, params, batch, weight=w)[0] for w in (1.0, 2.0))
    assert distance(double, jax.tree.map(lambda g: 2 * g, single)) < 1e-2


# ---------------------------------------------------------------------------- layers


def unrolled(model, params, input_shape):
    """A chain's blocks as dense layers, as a function of the parameters."""
    shapes = jax.eval_shape(lambda x: chain_of(model, params, x).feedforward(params), jnp.zeros((1, *input_shape)))
    inputs = [input_shape, *(u.shape[1:] for u in shapes[:-1])]

    def dense_params(params):
        made = []
        for block, shape in zip(chain_of(model, params, jnp.zeros((1, *input_shape))).blocks, inputs, strict=True):
            size = int(np.prod(shape))
            offset = block.map(params, jnp.zeros((1, *shape))).reshape(-1)
            rows = block.map(params, jnp.eye(size).reshape(size, *shape)).reshape(size, -1)
            made.append({"w": rows - offset, "b": offset})
        return tuple(made)

    return dense_params, [int(np.prod(u.shape[1:])) for u in shapes]


@pytest.mark.slow
def test_convolution_and_pooling_equal_their_unrolled_dense_copy(x64):
    model = Layered(
        (
            conv(2, 3, activation="sigmoid"),
            avg_pool(2),
            conv(3, 2, padding="VALID", activation="tanh"),
            flatten(),
            dense(3),
        )
    )
    params, _ = model.init(jax.random.key(0), (4, 4, 1))
    x, y = jax.random.normal(jax.random.key(1), (5, 4, 4, 1)), jax.nn.one_hot(jnp.arange(5) % 3, 3)
    to_dense, widths = unrolled(model, params, (4, 4, 1))
    copy = Layered([dense(widths[0], "sigmoid"), dense(widths[1], "tanh"), dense(widths[2])])
    method = EP("squared_error", energy="hopfield", dt=0.2, n_relax=40, mode="symmetric", beta=0.3)
    grads = method.get_grads(model, params, (x, y))[0]
    dense_grads = method.get_grads(copy, jax.jit(to_dense)(params), (x.reshape(5, -1), y))[0]
    pulled = jax.jit(lambda p, g: jax.vjp(to_dense, p)[1](g)[0])(params, dense_grads)
    # Rows hold w + b of the block's own map, so the copy's gradients pull back to the layer's.
    assert distance(grads, pulled) < 1e-12


@pytest.mark.slow
def test_gaussian_takes_any_layer_and_tends_to_back_propagation(x64):
    model = Layered(
        (conv(2, 3, activation="tanh"), max_pool(2), residual(conv(2, 3, activation="tanh")), flatten(), dense(3))
    )
    params, _ = model.init(jax.random.key(0), (4, 4, 1))
    batch = jax.random.normal(jax.random.key(1), (5, 4, 4, 1)), jnp.arange(5) % 3
    grads = EP("cross_entropy", mode="symmetric", beta=1e-3, dt=0.1, n_relax=400).get_grads(model, params, batch)[0]
    assert distance(grads, BP("cross_entropy").get_grads(model, params, batch)[0]) < 1e-5


def _sorted(params, x):
    return jnp.sort(x)


def test_hopfield_names_the_layer_it_cannot_take():
    model = Layered((conv(1, 3, activation="sigmoid"), function(_sorted), flatten(), dense(3)))
    params, _ = model.init(jax.random.key(0), (4, 4, 1))
    with pytest.raises(ModelError, match=r"layer 1 \(_sorted.*\n.*energy='gaussian'"):
        small().get_grads(model, params, (jnp.ones((2, 4, 4, 1)), jnp.zeros((2, 3))))


def test_a_third_party_energy_needs_only_its_value(x64):
    class Plain(Energy):
        default_init = "feedforward"

        def value(self, chain, params, u):
            predictions = (block.map(params, below) for block, below in zip(chain.blocks, chain.below(u), strict=True))
            return sum(2 * half_squares(v - p) for v, p in zip(u, predictions, strict=True))

    model, params, batch = problem(sizes=SHALLOW)
    settings = {"mode": "holomorphic", "beta": 0.3, "n_points": 3}
    own, ours = (
        EP("cross_entropy", **settings, energy=energy).get_grads(model, params, batch)[0]
        for energy in (Plain(), "gaussian")
    )
    assert distance(own, ours) < 1e-12


# ---------------------------------------------------------------------------- relaxation


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**30),
    dt=st.floats(1e-3, 0.05),
    scale=st.floats(0.1, 2.0),
    energy=st.sampled_from(["hopfield", "gaussian"]),
)
def test_energy_never_rises_with_small_steps(seed, dt, scale, energy):
    with jax.enable_x64(True):
        _, params, batch = problem(seed, scale=scale)
        for name, trace in _traces(energy, params, batch, dt).items():
            rises = np.diff(trace["energy"])
            assert rises.max() < 1e-12, name


def _traces(energy, params, batch, dt):
    aux = _traced(energy)(problem()[0], params, batch, dt)
    return {"free": aux["free"], "nudged": {name: leaf[0] for name, leaf in aux["nudged"].items()}}


def _traced(energy, compiled={}):  # noqa: B006 one compiled function per energy
    if energy not in compiled:

        def run(model, params, batch, dt):
            rule = neurai.algorithm(
                "ep", loss="squared_error", energy=energy, activation="sigmoid", init="zeros", dt=dt, trace=True
            )
            return estimated(rule, model, params, (), batch)[0].aux["trace"]

        compiled[energy] = jax.jit(run, static_argnums=0)
    return compiled[energy]


def test_a_trace_shows_both_phases_and_ends_in_the_same_state(x64):
    model, params, batch = problem()
    options = HOPFIELD | {"n_relax": 12, "n_nudged": 7}
    plain, traced = (neurai.algorithm("ep", loss="squared_error", **options, trace=trace) for trace in (False, True))
    estimate, shown = (estimated(rule, model, params, (), batch)[0] for rule in (plain, traced))
    assert distance(estimate.grads, shown.grads) < 1e-12
    assert shown.aux["trace"]["free"]["energy"].shape == (13,)
    assert shown.aux["trace"]["nudged"]["residual"].shape == (1, 8)
    np.testing.assert_allclose(shown.aux["trace"]["free"]["residual"][-2], estimate.aux["residual_free"], rtol=1e-12)
    np.testing.assert_allclose(shown.aux["trace"]["nudged"]["energy"][0, -1], estimate.aux["energy"], rtol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("options", [HOPFIELD, HOPFIELD | {"mode": "symmetric", "beta": 0.5}, {"energy": "gaussian"}])
def test_the_energy_change_is_that_of_the_free_and_the_first_nudged_phase(options, x64):
    model, params, batch = problem()
    rule = neurai.algorithm("ep", loss="squared_error", trace=True, **options)
    aux = estimated(rule, model, params, (), batch)[0].aux
    phases = [
        aux["trace"]["nudged"]["energy"][0],
        *([aux["trace"]["free"]["energy"]] if "activation" in options else []),
    ]
    np.testing.assert_allclose(aux["energy_change"], sum(e[-1] - e[0] for e in phases), rtol=1e-10)
    assert aux["energy_change"] < 0


@pytest.mark.filterwarnings("ignore::neurai_core.errors.RisingEnergy")
def test_steps_that_are_too_large_raise_the_energy_unless_they_are_limited():
    model, params, batch = problem()

    @partial(jax.jit, static_argnums=1)
    def change(dt, stable):
        rule = neurai.algorithm("ep", loss="squared_error", dt=dt, stable=stable)
        return rule.estimate(model, params, (), batch)[0].aux["energy_change"]

    assert change(0.1, False) < 0 < change(0.9, False)
    assert change(0.9, True) < 0


@pytest.mark.few(1)
@pytest.mark.parametrize("energy", ["hopfield", "gaussian"])
def test_the_layout_of_activities_changes_nothing(energy, x64):
    """Dense networks relax with the batch axis last; the same maps as a stranger's layers do not."""

    def linear(params, x):
        return x @ params["w"] + params["b"]

    model, params, batch = problem()
    strange = Layered([linear_layer(layer.init, linear, layer.activation, layer.name) for layer in model.layers])
    method = small(energy, mode="symmetric", beta=0.3, order="even_odd")
    ours, theirs = (method.get_grads(m, params, batch)[0] for m in (model, strange))
    assert chain_of(model, params, batch[0]).on_columns() and not chain_of(strange, params, batch[0]).on_columns()
    assert distance(ours, theirs) < 1e-13


# ---------------------------------------------------------------------------- transformations, memory, dtypes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:EP. after n_relax")
def test_without_jit_it_is_the_same(x64):
    model, params, batch = problem(
        sizes=(4, 4, 4, 4)
    )  # of one shape: without jit, every shape of every operation compiles
    method = small(n_relax=2, tol=1e-9)
    compiled = method.get_grads(model, params, batch)[0]
    with jax.disable_jit():
        assert distance(method.get_grads(model, params, batch)[0], compiled) < 1e-12


@pytest.mark.slow
def test_vmap_over_beta_and_dt_sweeps_one_program(x64):
    model, params, batch = problem()

    def sweep(beta, dt):
        rule = neurai.algorithm(
            "ep", loss="squared_error", energy="hopfield", activation="sigmoid", beta=beta, dt=dt, n_relax=10
        )
        return estimated(rule, model, params, (), batch)[0].grads

    betas, dts = jnp.array([0.2, 0.5]), jnp.array([0.5, 0.4])
    stacked = jax.jit(jax.vmap(sweep))(betas, dts)
    for k in range(2):
        alone = small(dt=float(dts[k]), beta=float(betas[k])).get_grads(model, params, batch)[0]
        assert distance(jax.tree.map(lambda leaf, k=k: leaf[k], stacked), alone) < 1e-12


def test_the_class_takes_traced_numbers(x64):
    model, params, batch = problem()
    grads = jax.vmap(lambda beta: EP("mse", beta=beta).get_grads(model, params, batch)[0])(jnp.array([0.2, 0.5]))
    alone = EP("mse", beta=0.5).get_grads(model, params, batch)[0]
    assert distance(jax.tree.map(lambda leaf: leaf[1], grads), alone) < 1e-12


def test_one_trace_per_shape_whatever_beta_and_dt():
    traces = []

    def loss(outputs, targets):
        traces.append(1)
        return jnp.mean((outputs - targets) ** 2)

    model, params, batch = problem()
    EP(loss).get_grads(model, params, batch)
    seen = len(traces)
    for k in range(5):
        EP(loss, beta=0.1 + k, dt=0.1 / (1 + k), tau=2.0).get_grads(problem()[0], params, batch)
    assert len(traces) == seen + 5, "every new object checks the shapes of its loss once, without compiling"


def test_memory_does_not_grow_with_the_number_of_steps():
    model, params, batch = problem(sizes=SHALLOW)

    def temporary_bytes(n):
        rule = neurai.algorithm("ep", loss="squared_error", **HOPFIELD, n_relax=n)
        compiled = jax.jit(rule.estimate, static_argnums=0).lower(model, params, (), batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(20) == temporary_bytes(500)


@pytest.mark.slow
def test_padding_a_batch_changes_nothing(x64):
    """Rows without a target: zero cost and zero nudge with a loss that sums over the batch."""
    model, params, (x, y) = problem(sizes=SHALLOW)
    padded = jnp.concatenate([x, jnp.ones((3, 6))]), jnp.concatenate([y, jnp.zeros((3, 3))])
    for options in ({"mode": "two_phase"}, HOPFIELD | {"mode": "symmetric", "beta": 0.3}):
        method = EP("sum_cross_entropy", **options)
        one, other = (method.get_grads(model, params, batch) for batch in ((x, y), padded))
        assert distance(other[0], one[0]) < 1e-12
        np.testing.assert_allclose(other[2], one[2], rtol=1e-12)


def test_activities_are_float32_under_a_bfloat16_policy():
    model, params, batch = problem()
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    grads = small().get_grads(model, half, batch)[0]
    whole = small().get_grads(model, jax.tree.map(lambda p: p.astype(jnp.float32), half), batch)[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"bfloat16"}
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(jnp.bfloat16)), grads, whole)


def test_float32_keeps_the_digits_of_a_small_nudge():
    """States are subtracted before the outer product: at beta 0.01 the error stays below 1e-3."""
    model, params, batch = problem(sizes=(64, 32, 10), batch=16)
    method = small(mode="symmetric", beta=0.01, n_relax=60)
    grads = method.get_grads(model, params, batch)[0]
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (params, batch))
        exact = method.get_grads(model, *double)[0]
        assert distance(grads, exact) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("library", ["equinox", "flax"])
def test_models_of_other_libraries(library):
    pytest.importorskip(library)
    model, params, x = _theirs(library)
    batch = x, jnp.arange(4) % 3
    method = EP("cross_entropy", "accuracy", mode="symmetric", beta=1e-2, dt=0.2, n_relax=200)
    grads, *_ = method.get_grads(model, params, batch)
    expected = BP("cross_entropy").get_grads(model, params, batch)[0]
    assert distance(jax.tree.leaves(grads), jax.tree.leaves(expected)) < 1e-2


def _theirs(library):
    x = jax.random.normal(jax.random.key(1), (4, 6))
    if library == "equinox":
        import equinox as eqx

        model = eqx.nn.MLP(6, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(0))
        return model, eqx.filter(model, eqx.is_array), x
    from flax import linen as nn

    model = nn.Sequential([nn.Dense(5), jnp.tanh, nn.Dense(3)])
    return model, model.init(jax.random.key(0), x), x


# ---------------------------------------------------------------------------- learning


@pytest.mark.few(1)
@pytest.mark.parametrize(("preset", "bar"), [("gaussian", 0.85), ("hopfield-digits", 0.6)])
def test_presets_learn_the_digits(preset, bar):
    """Four epochs; chance is 0.1."""
    data = neurai.dataset("digits")
    x, y = jnp.asarray(data.x_train).reshape(len(data.x_train), -1), jnp.asarray(data.y_train)
    method = EP.preset(preset)
    model = mlp((64, 32, 10), activation="sigmoid")
    params, _ = model.init(jax.random.key(0), (64,))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def epoch(carry, rows):
        def step(carry, rows):
            params, opt_state = carry
            grads = method.get_grads(model, params, (x[rows], y[rows]))[0]
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, carry, rows)[0]

    carry = params, optimizer.init(params)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(x))
        carry = epoch(carry, order[: len(x) // 32 * 32].reshape(-1, 32))
    test = data.x_test.reshape(len(data.x_test), -1), data.y_test
    assert method.predict(model, carry[0], test)[1] > bar

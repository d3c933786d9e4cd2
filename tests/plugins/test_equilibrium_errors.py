"""Equilibrium propagation, kind when it fails: every bad setting, function, batch and runaway is one clear sentence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest
from equilibrium_oracle import problem

import neurai_core as neurai
from neurai_algorithms.equilibrium.api import EP
from neurai_algorithms.equilibrium.spec import EPConfig
from neurai_core.errors import DataError, ModelError, SettingsError, TrainingError, UnknownName, UsageError
from neurai_core.models import mlp

pytestmark = pytest.mark.golden

HOPFIELD = {"energy": "hopfield", "activation": "sigmoid", "dt": 0.5}


def small(**options):
    return EP("squared_error", **(HOPFIELD | {"n_relax": 10} | options))


def estimated(rule, *arguments):
    return jax.jit(rule.estimate, static_argnums=0)(*arguments)


def test_one_sided_estimates_of_an_unsettled_hopfield_network_warn():
    with pytest.warns(
        UserWarning, match=r"keeps about 12%.*mode two_phase divides that drift by beta.*dt=0\.5.*symmetric"
    ):
        EP("squared_error", energy="hopfield")
    with pytest.warns(UserWarning, match="keeps about 12%"):
        neurai.algorithm("ep", loss="squared_error", init="normal")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 0}, "beta is 0"),
        ({"dt": 0.0}, "dt"),
        ({"dt": -0.1}, "dt"),
        ({"n_relax": 0}, "n_relax"),
        ({"tol": -1.0}, "tol"),
        ({"tau": 0.0}, "tau"),
        ({"mode": "symetric"}, "Did you mean 'symmetric'"),
        ({"energy": "hopfeld"}, "Did you mean 'hopfield'"),
        ({"init": "random"}, "init"),
        ({"order": "odd"}, "order"),
        ({"n_points": 0}, "n_points"),
        ({"linearized": True, "mode": "continual"}, "linearized needs two settled states"),
        ({"init": "persistent", "mode": "continual"}, "cannot be combined"),
        ({"energy": "hopfield", "beta": -1.0}, "no minimum at -1"),
        ({"energy": "hopfield", "beta": 1.0, "mode": "symmetric"}, "nudges by -1"),
        ({"energy": "hopfield", "beta": 1.5, "mode": "richardson"}, "nudges by -1.5"),
        ({"energy": "hopfield", "beta": 1.0, "mode": "random_sign"}, "nudges by -1"),
        ({"energy": "hopfield", "beta": 1.0, "mode": "holomorphic", "n_points": 4}, "nudges by -1"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(options, words):
    with pytest.raises(SettingsError, match=words):
        EP("squared_error", **options)


def test_an_unknown_activation_gets_the_nearest_name():
    model, params, batch = problem()
    with pytest.raises(UnknownName, match="Did you mean 'sigmoid'"):
        EP("mse", activation="sigmoyd").get_grads(model, params, batch)


@pytest.mark.parametrize("activation", [jax.nn.softmax, lambda u: u.sum(axis=-1), lambda u: u @ u])
def test_an_activation_that_is_not_elementwise_is_named(activation):
    with pytest.raises(ModelError, match=r"The activation .* is not elementwise"):
        EP("mse", activation=activation)


@pytest.mark.parametrize("activation", ["relu", "hard_sigmoid", jnp.abs, "leaky_relu"])
def test_holomorphic_names_the_activation_that_is_not(activation):
    model, params, batch = problem()
    with pytest.raises(
        UsageError, match=r"needs a holomorphic activation, and (relu|hard_sigmoid|abs\w*|leaky_relu) is not"
    ):
        EP("mse", mode="holomorphic", activation=activation).get_grads(model, params, batch)


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_holomorphic_names_the_loss_that_is_not(loss):
    model, params, batch = problem()
    with pytest.raises(UsageError, match=f"needs a holomorphic loss, and {loss} is not"):
        EP(loss, mode="holomorphic").get_grads(model, params, batch)


def test_continual_asks_for_an_optimizer_and_its_state():
    model, params, batch = problem()
    for some in ((), (optax.sgd(0.1),)):
        with pytest.raises(UsageError, match="needs an optimizer and its state"):
            EP("mse", mode="continual").get_grads(model, params, batch, *some)
    with pytest.raises(UsageError, match="got no optimizer"):
        neurai.algorithm("ep", loss="mse", mode="continual").estimate(model, params, (), batch)


def test_what_draws_asks_for_a_key():
    model, params, batch = problem()
    for method in (small(init="normal", mode="symmetric", beta=0.5), small(mode="random_sign", beta=0.5)):
        with pytest.raises(UsageError, match=r"got no key.\n.*key=jax.random.key"):
            method.get_grads(model, params, batch)


def test_repeat_is_a_whole_number_of_at_least_one():
    model, params, batch = problem()
    for repeat in (0, 1.5, "3"):
        with pytest.raises(UsageError, match="repeat is"):
            small().get_grads(model, params, batch, repeat=repeat)


def test_given_activities_of_the_wrong_shape_are_refused():
    model, params, batch = problem()
    with pytest.raises(ModelError, match=r"init has activities of shapes .*\(4, 7\).*, expected .*\(4, 5\)"):
        small(init=(jnp.zeros((4, 7)),)).get_grads(model, params, batch)


def test_bad_batches_are_refused_as_for_every_rule():
    model, params, (x, y) = problem()
    with pytest.raises(DataError, match="empty"):
        EP("mse").get_grads(model, params, (x[:0], y[:0]))
    with pytest.raises(ModelError, match=r"Layer 0 \(dense\(5\)\)"):
        EP("mse").get_grads(model, params, (x[:, :4], y))


def runaway():
    model = mlp((6, 5, 3), activation="softplus")
    params, _ = model.init(jax.random.key(0), (6,))
    params = jax.tree.map(lambda p: 40 * p, params)
    return model, params, (jnp.ones((4, 6)), jnp.zeros((4, 3)))


def test_activities_that_blow_up_stop_with_layer_step_and_phase():
    model, params, batch = runaway()
    with pytest.raises(
        TrainingError, match=r"activities of layer [01] \(dense\(\d\)\) blew up at step \d+ of the free phase"
    ):
        EP("squared_error", energy="hopfield", dt=0.5, stable=False).get_grads(model, params, batch)
    with pytest.raises(TrainingError, match=r"blew up at step \d+ of the nudged phase"):
        EP("squared_error", dt=1.9, stable=False).get_grads(model, params, batch)


@pytest.mark.filterwarnings("ignore::neurai_core.errors.RisingEnergy")
def test_a_rule_whose_activities_blow_up_reports_nan_and_no_gradient():
    model, params, batch = runaway()
    settings = {"loss": "squared_error", "energy": "hopfield", "dt": 0.5, "beta": 0.5, "stable": False}
    for mode in ("two_phase", "symmetric"):
        rule = neurai.algorithm("ep", mode=mode, **settings)
        estimate, _ = estimated(rule, model, params, (), batch)
        assert jnp.isnan(estimate.loss) and estimate.aux["blown_up"]
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(estimate.grads))


def test_a_setting_of_a_former_name_is_still_taken():
    assert EPConfig(linearised=True) == EPConfig(linearized=True)
    former, now = (neurai.algorithm("ep", **{name: True}) for name in ("linearised", "linearized"))
    assert former.origin == now.origin
    with pytest.raises(neurai.SettingsError, match="linearised is the former name of linearized, and both are given"):
        neurai.algorithm("ep", linearised=True, linearized=False)

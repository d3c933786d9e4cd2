"""Predictive coding when something is wrong: one clear error that says what would do; a warning before training."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import optax
import pytest

import neurai_core as neurai
from neurai_algorithms.predictive_coding.api import PC
from neurai_algorithms.predictive_coding.reach import ShortRelaxation, warn_if_short
from neurai_algorithms.predictive_coding.rule import build
from neurai_algorithms.predictive_coding.spec import PCConfig, pc
from neurai_core.errors import ModelError, SettingsError, UnknownName, UsageError
from neurai_core.layered import Layered, dense
from neurai_core.models import mlp

pytestmark = pytest.mark.golden


@pytest.fixture(autouse=True, scope="module")
def registered():
    with neurai.temporary(pc, replace=True):
        yield


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 0}, r"n: input should be greater than or equal to 1 \(got 0\)"),
        ({"n": 2.5}, "n: input should be a valid integer"),
        ({"eta": 0}, r"eta: input should be a finite number greater than 0 \(got 0\)"),
        ({"eta": -0.1}, "eta: input should be a finite number greater than 0"),
        ({"eta": float("nan")}, "eta: input should be a finite number greater than 0"),
        ({"eta": float("inf")}, "eta: input should be a finite number greater than 0"),
        ({"eta": "fast"}, "neither a call of optax"),
        ({"loss_scale": 0}, "loss_scale: input should be a finite number greater than 0"),
        ({"loss_scale": "per_batch"}, "per_sample"),
        ({"tol": -1.0}, "tol: input should be greater than or equal to 0"),
        ({"mode": "strikt"}, "mode: input should be 'strict', 'fixed_pred', 'exact', 'incremental' or 'error'"),
        ({"mode": "bistrict"}, "mode: input should be 'strict'"),
        ({"corrector": 3}, "corrector"),
        ({"mode": "fixed_pred", "corrector": "adam(0.1)"}, "corrector has no meaning in mode fixed_pred"),
        ({"mode": "exact", "tol": 0.1}, "tol has no meaning in mode exact"),
        ({"mode": "incremental", "fresh": True}, "fresh has no meaning in mode incremental"),
        ({"tol": 0.1, "energy_trace": True}, "energy_trace has a fixed length"),
        ({"etta": 0.1}, "not a setting of 'pc'; did you mean 'eta'"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(settings, words):
    with pytest.raises(SettingsError, match=words):
        neurai.algorithm("pc", **settings)
    with pytest.raises(SettingsError, match=words):
        PC("mse", **settings)


def test_a_text_calls_nothing_but_optax():
    with pytest.raises(UnknownName, match="optax has no function named 'open'"):
        neurai.algorithm("pc", eta="sgd(open('x'))")


def test_an_unknown_function_of_optax_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'cosine_decay_schedule'"):
        neurai.algorithm("pc", eta="cosine_decay_schedul(0.1, 20)")


def test_arguments_that_optax_refuses_are_named():
    with pytest.raises(SettingsError, match=r"optax cannot make 'cosine_decay_schedule\(\)'"):
        neurai.algorithm("pc", eta="cosine_decay_schedule()")


def test_one_opaque_callable_is_refused_with_the_ways_to_name_its_values():
    batch = jnp.ones((4, 3)), jnp.ones((4, 2))
    with pytest.raises(ModelError, match=r"names no value(.|\n)*neurai.activity(.|\n)*neurai.named\(model"):
        PC("mse").get_grads(lambda params, x: x @ params, jnp.ones((3, 2)), batch)


@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "exact", "incremental"])
def test_a_loss_that_is_not_scalar_is_named(mode):
    model = mlp((3, 4, 2))
    params, _ = model.init(jax.random.key(0), (3,))
    batch = jnp.ones((4, 3)), jnp.ones((4, 2))
    rule = neurai.algorithm("pc", loss=lambda o, y: jnp.sum((o - y) ** 2, axis=1), mode=mode)
    with pytest.raises(ModelError, match=r"The loss returned float32\[4\].*expected one scalar"):
        rule.estimate(model, params, rule.init(model, params, key=None), batch)


def test_params_of_another_model_are_named():
    params, _ = mlp((3, 7, 2)).init(jax.random.key(0), (3,))
    batch = jnp.ones((4, 3)), jnp.ones((4, 2))
    rule = neurai.algorithm("pc", loss="mse")
    with pytest.raises(ModelError, match="expected a tuple of 3"):
        rule.estimate(mlp((3, 4, 4, 2)), params, (), batch)
    with pytest.raises(ModelError, match=r"Layer 1 \(dense\(2\)\) cannot take"):
        rule.estimate(Layered((dense(4), dense(2))), (params[0], params[0]), (), batch)


def test_incremental_without_its_state_says_how_to_start():
    model = mlp((3, 4, 2))
    params, _ = model.init(jax.random.key(0), (3,))
    rule = neurai.algorithm("pc", loss="mse", mode="incremental")
    with pytest.raises(UsageError, match=r"state = rule.init\(model, params, key=key\)"):
        rule.estimate(model, params, (), (jnp.ones((4, 3)), jnp.ones((4, 2))))


def test_a_traced_number_in_the_class_points_to_the_rule():
    with pytest.raises(SettingsError, match=r"neurai.algorithm\('pc', eta="):
        jax.jit(lambda eta: PC("mse", eta=eta) and eta)(0.1)
    assert PC("mse", eta=jnp.float32(0.5)).settings["eta"] == 0.5


# ---------------------------------------------------------------------------- the warning


def test_gradients_that_will_be_exactly_zero_are_announced_with_the_n_that_would_do():
    with pytest.warns(
        ShortRelaxation, match=r"n=3 sweeps leave 2 of 5 layers .*exactly zero.*n=11 brings 1%.*n=98 99%"
    ):
        warn_if_short(PCConfig(n=3), 5)


def test_the_advice_of_the_warning_silences_it():
    with pytest.warns(ShortRelaxation, match=r"n=20 sweeps bring 0.009 of the error .* n=21 brings 1%"):
        warn_if_short(PCConfig(mode="fixed_pred"), 7)
    warn_if_short(PCConfig(mode="fixed_pred", n=21), 7)
    warn_if_short(PCConfig(mode="fixed_pred", n=20, fresh=True), 7)


def test_no_warning_where_nothing_can_be_said():
    for config in (
        PCConfig(mode="exact"),
        PCConfig(corrector="adam(0.1)"),
        PCConfig(eta=optax.constant_schedule(0.1)),
    ):
        warn_if_short(config, 12)


def test_a_step_of_two_or_more_has_no_n_that_would_do():
    with pytest.warns(ShortRelaxation, match=r"take 0 < eta < 2|n=\d"):
        warn_if_short(PCConfig(eta=3.0, n=2), 5)


def test_the_warning_comes_once_before_training():
    model = mlp((3, *[4] * 8, 2))
    params, _ = model.init(jax.random.key(0), (3,))
    batch = jnp.ones((4, 3)), jnp.ones((4, 2))
    method = PC("mse", n=5)
    with pytest.warns(ShortRelaxation, match="exactly zero"):
        method.get_grads(model, params, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.get_grads(model, params, batch)


def test_a_rule_knows_its_settings_and_is_rebuilt():
    rule = neurai.algorithm("pc", loss="mse", eta="cosine_decay_schedule(0.2, 20)", loss_scale="per_sample")
    assert rule.origin.settings["eta"] == "cosine_decay_schedule(0.2, 20)"
    again = neurai.rebuild(type(rule.origin).from_json(rule.origin.to_json()))
    assert again.origin == rule.origin
    assert build(PCConfig(), loss=lambda o, y: 0.0).origin is None
    own = neurai.algorithm("pc", loss="mse", eta=optax.cosine_decay_schedule(0.2, 20))
    with pytest.raises(SettingsError, match=r"eta: .*cosine_decay_schedule"):
        neurai.rebuild(own.origin)

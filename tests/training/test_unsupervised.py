"""Runs of rules that learn from inputs alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, SettingsError
from neurai_core.probe import linear_probe
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.loop import train_task
from neurai_core.training.networks import network
from neurai_core.training.run import resume, train
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

pytestmark = pytest.mark.usefixtures("quick_compile")

NAMES = neurai.names("algorithm", supports="unsupervised")
LABELED = {"data": "digits", "model": "mlp:8", "epochs": 2}


@pytest.fixture
def unlabeled(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "points.npz"
    np.savez(path, x_train=rng.normal(size=(96, 5)), x_test=rng.normal(size=(32, 5)))
    return f"npz:{path}"


def begun(**flags):
    return prepare(choose({"rule": NAMES[0], **flags}, environ={}))


def test_with_labels_a_probe_scores_the_features():
    task = begun(**LABELED)
    assert [own["w"].shape for own in task.params] == [(64, 8)]  # the last width is the number of features
    fitted = train_task(task)
    values = fitted.rows[-1].values
    assert "train_accuracy" not in values and 0.5 < values["test_accuracy"] < 1

    def features(x):
        return task.rule.predict(task.model, fitted.progress.params, jnp.asarray(x))

    probe = linear_probe(features(task.data.x_train), jnp.asarray(task.data.y_train), 10)
    right = probe(features(task.data.x_test)).argmax(axis=1) == task.data.y_test
    assert values["test_accuracy"] == pytest.approx(float(jnp.mean(right)))


def test_without_labels_only_the_losses_are_reported(unlabeled):
    values = train_task(begun(data=unlabeled, model="mlp:3", epochs=3)).rows[-1].values
    assert values["test_loss"] < train_task(begun(data=unlabeled, model="mlp:3", epochs=1)).rows[-1].values["test_loss"]
    assert not any(name.endswith("accuracy") for name in values)


@pytest.mark.parametrize("text", ["cnn:2,5", "resmlp:5x3", "mlp:7,5,tanh"])
def test_the_last_width_is_the_number_of_features(text):
    found = network(text, (8, 8, 1), None, jax.random.key(0))
    assert jax.tree.leaves(found.params[-1])[0].shape == (5,)  # biases come first


def test_the_features_of_a_spiking_network_are_rates():
    found = network(
        "snn:6,5,rate", (8, 8, 1), None, jax.random.key(0), surrogate=neurai.surrogate("superspike"), steps=4
    )
    rates = 4 * found.model(found.params, jax.random.uniform(jax.random.key(1), (3, 64)))
    assert rates.shape == (3, 5) and jnp.array_equal(rates, jnp.round(rates)) and rates.any()


def test_a_rule_that_needs_targets_says_which_do_not(unlabeled):
    with pytest.raises(DataError, match=rf"has no targets.*\n?.*{NAMES[0]}"):
        begun(rule="bp", data=unlabeled, model="mlp:3")


def test_a_loss_in_vain_is_refused():
    with pytest.raises(SettingsError, match="has no use for the loss 'mse'"):
        begun(loss="mse", **LABELED)


def test_a_network_without_a_width_is_refused():
    with pytest.raises(ModelError, match="needs the number of features"):
        begun(data="digits", model="mlp:tanh")


def test_a_spec_that_learns_from_inputs_alone_says_what_it_minimizes():
    with pytest.raises(ValueError, match="needs own_loss and no_alignment"):
        AlgorithmSpec(name="one", summary="One.", claims=("unsupervised",))


def test_a_probe_reads_what_a_linear_map_can_and_ignores_dead_features():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(200, 3)), np.ones((200, 1))], axis=1)
    y = (x @ [1.0, -2.0, 0.5, 0.0] > 0).astype(int)
    probe = linear_probe(jnp.asarray(x[:150]), jnp.asarray(y[:150]), 2)
    assert float(jnp.mean(probe(jnp.asarray(x[150:])).argmax(axis=1) == y[150:])) > 0.9
    assert not np.any(probe.w[3])
    with pytest.raises(DataError, match="one label per example"):
        linear_probe(jnp.ones((4, 2)), jnp.zeros(3, int), 2)


def test_a_run_of_the_command_is_repeated_continued_and_loaded(tmp_path):
    chosen = choose({"rule": NAMES[0], "data": "digits", "model": "mlp:4", "epochs": 1}, environ={})
    ended = train(chosen, tmp_path / "run")
    again = train(choose(file=tmp_path / "run" / "config.toml", environ={}), tmp_path / "again")
    assert again["test_loss"] == ended["test_loss"] == resume(tmp_path / "run")["test_loss"]
    x = neurai.dataset("digits").x_test
    np.testing.assert_array_equal(
        neurai.load_run(tmp_path / "run").predict(x), neurai.load_run(tmp_path / "again").predict(x)
    )


@pytest.mark.parametrize("rule", [NAMES[0], neurai.algorithm(NAMES[0])])
def test_a_run_of_fit_is_repeated_continued_and_loaded(tmp_path, rule):
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    given = {"epochs": 1, "batch_size": 32, "lr": 1e-3, "optimizer": "sgd", "schedule": "constant"}
    fitted = neurai.fit(rule, "mlp:3", None, (x, None), out=tmp_path / "run", **given)
    np.testing.assert_array_equal(neurai.load_run(tmp_path / "run").predict(x), fitted.predict(x))
    again = neurai.fit(rule, "mlp:3", None, (x, None), out=tmp_path / "run", resume=True, **given | {"epochs": 2})
    assert (again.steps, [row["epoch"] for row in again.metrics]) == (4, [1, 2])


def test_the_loss_of_a_run_gives_way_when_a_rule_without_one_repeats_it(tmp_path):
    (tmp_path / "config.toml").write_text('rule = "bp"\nloss = "mse"\n')
    chosen = choose({"rule": NAMES[0]}, file=tmp_path / "config.toml", environ={"NEURAI_LOSS": "mse"})
    assert (chosen.settings.loss, chosen.sources["loss"]) == ("auto", "default")

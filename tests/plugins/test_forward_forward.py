"""Forward-Forward: what its layers learn, what it predicts, and what it cannot train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.forward_forward.rule import above, first, goodness, passed
from neurai_core.cli import main
from neurai_core.errors import DataError, ModelError, SettingsError, UsageError
from neurai_core.layered import Layered, conv, dense, flatten, max_pool, residual
from neurai_core.models import mlp
from neurai_core.training.run import finished
from neurai_core.training.settings import choose

pytestmark = pytest.mark.usefixtures("quick_compile")

MODEL = mlp((8, 7, 6, 4), activation="tanh")


def extended(rule: Any, plain: Any = MODEL, shape: tuple[int, ...] = (8,)) -> tuple[Any, Any]:
    """The model that is trained, and its parameters."""
    params, _ = plain.init(jax.random.key(0), shape)
    return rule.extended(plain, params, key=jax.random.key(2), input_shape=shape)


def examples(shape: tuple[int, ...] = (8,)) -> tuple[jax.Array, jax.Array]:
    return jax.random.normal(jax.random.key(1), (5, *shape)), jnp.arange(5) % 4


@pytest.mark.slow
def test_after_training_every_layer_has_a_higher_goodness_for_true_labels_than_for_false_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("--rule", "forward-forward", "--model", "mlp:64,32,relu", "--epochs", "8")
    assert main(["train", *settings, "--json", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "train (goodness loss)" in said.err and "epoch 8: train goodness loss" in said.err
    result = json.loads(said.out)
    task, kept = finished(tmp_path / "run")
    params, (x, y) = kept.params, (task.data.x_test, jnp.asarray(task.data.y_test))
    scores = task.rule.predict(task.model, params, x, kept.state)
    assert float((scores.argmax(axis=1) == y).mean()) == pytest.approx(result["test_accuracy"])

    h = first(task.model, params["layers"][0], x, [params["labels"][label] for label in (y, (y + 1) % 10)])
    for layer, own in above(task.model, params):
        positive, negative = jnp.split(goodness(h), 2)
        assert float(jnp.mean(positive > negative)) > 0.9
        h = passed(layer, own, h)


def test_a_prediction_is_the_goodness_of_every_label_in_turn(x64: None) -> None:
    rule = neurai.algorithm("forward-forward", strength=0.5)
    model, params = extended(rule)
    x, _ = examples()
    scores = rule.predict(model, params, x)
    for label in range(4):
        u = MODEL.layers[0].linear(params["layers"][0], x) + 0.5 * params["labels"][label]
        h, total = jnp.tanh(u), 0.0
        for layer, own in zip(MODEL.layers[1:], params["layers"][1:], strict=True):
            total += jnp.mean(h**2, axis=1)
            h = layer.apply(own, (), h / (jnp.sqrt(jnp.mean(h**2, axis=1, keepdims=True)) + 1e-6))[0]
        np.testing.assert_allclose(scores[:, label], total + jnp.mean(h**2, axis=1), rtol=1e-10)


@pytest.mark.slow
def test_layers_without_parameters_pass_on_what_they_get_and_have_no_goodness() -> None:
    plain = Layered((conv(3, 3, activation="relu"), max_pool(2), flatten(), dense(4)))
    rule = neurai.algorithm("forward-forward", accuracy="accuracy")
    model, params = extended(rule, plain, (6, 6, 1))
    found, _ = rule.estimate(model, params, (), examples((6, 6, 1)), key=jax.random.key(3))
    assert params["labels"].shape == (4, *plain.layers[0].linear(params["layers"][0], jnp.ones((1, 6, 6, 1))).shape[1:])
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(found.grads))


def test_alignment_with_a_gradient_that_is_no_reference_is_refused() -> None:
    said = "not a reference for 'forward-forward': it trains the goodness of layers that see the label"
    with pytest.raises(UsageError, match=said):
        neurai.with_alignment(neurai.algorithm("forward-forward"), "cross_entropy")
    with pytest.raises(SettingsError, match=f"--align compares .* {said}"):
        choose({"rule": "forward-forward", "align": True}, environ={})


class TestWhatItCannotTrain:
    @pytest.mark.parametrize(
        ("plain", "shape", "said"),
        [
            (Layered((residual(dense(8)), dense(4))), (8,), r"adds the label to layer 0 \(residual.*\), which is not"),
            (mlp((8, 7, 1)), (8,), r"a score to each of at least 2 classes, and the outputs are float32\[1,1\]"),
        ],
    )
    def test_models_without_a_place_for_the_label_or_for_scores(self, plain: Any, shape: Any, said: str) -> None:
        with pytest.raises(ModelError, match=said):
            extended(neurai.algorithm("forward-forward"), plain, shape)

    def test_targets_that_are_no_labels_and_a_call_without_a_key(self) -> None:
        rule = neurai.algorithm("forward-forward", loss="squared_error")
        model, params = extended(rule)
        x, y = examples()
        with pytest.raises(DataError, match=r"learns labels, and the targets are float32\[5,4\]"):
            rule.estimate(model, params, (), (x, jax.nn.one_hot(y, 4)), key=jax.random.key(3))
        with pytest.raises(UsageError, match=r"'forward-forward'.*: estimate needs a key, and none was given"):
            rule.estimate(model, params, (), (x, y))

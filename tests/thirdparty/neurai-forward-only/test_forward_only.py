"""A rule from outside that asks what it trains on, predicts in its own way, and has a loss of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurai_forward_only import symba
from neurai_forward_only.symba_rule import goodness, passed

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import DataError, ModelError, SettingsError, UsageError
from neurai_core.models import mlp
from neurai_core.rule import initial_state, problem_of
from neurai_core.training.run import finished
from neurai_core.training.settings import choose

MODEL = mlp((8, 7, 6, 4), activation="tanh")


@pytest.fixture(autouse=True)
def found_by_name() -> Iterator[None]:
    """Whether or not the distribution is installed here."""
    with neurai.temporary(symba, replace=True):
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def problem(rule: Any, classes: int | None = 4) -> tuple[Any, Any, Any]:
    """Parameters, state and a batch of 5 random examples."""
    params, _ = MODEL.init(jax.random.key(0), (8,))
    batch = jax.random.normal(jax.random.key(1), (5, 8)), jnp.arange(5) % 4
    return params, initial_state(rule, MODEL, params, key=jax.random.key(2), problem=problem_of(batch, classes)), batch


def close(one: Any, other: Any, rtol: float = 1e-10) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13), one, other)


@pytest.mark.slow
def test_it_trains_on_digits_with_its_defaults_and_predicts_in_a_fresh_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--rule", "symba", "--epochs", "6", "--json", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["test_accuracy"] >= 0.8
    assert result["own_loss"] == "goodness loss"
    assert "train (goodness loss)" in said.err and "epoch 6: train goodness loss" in said.err
    task, kept = finished(tmp_path / "run")
    scores = task.rule.predict(task.model, kept.params, task.data.x_test, kept.state)
    assert float((scores.argmax(axis=1) == task.data.y_test).mean()) == pytest.approx(result["test_accuracy"])


def test_a_prediction_is_the_goodness_of_every_class_in_turn(float64: None) -> None:
    rule = neurai.algorithm("symba")
    params, state, (x, _) = problem(rule)
    scores = rule.predict(MODEL, params, x, state)
    for label in range(4):
        h, total = x + state.own[label], 0.0
        for layer, own in zip(MODEL.layers, params, strict=True):
            h = passed(layer, own, h)
            total += goodness(h)
        close(scores[:, label], total)


def test_a_layer_learns_from_its_own_goodness_alone(float64: None) -> None:
    rule = neurai.algorithm("symba")
    params, state, batch = problem(rule)
    grads = [
        rule.estimate(MODEL, (*params[:-1], top), state, batch, key=jax.random.key(3))[0].grads
        for top in (params[-1], jax.tree.map(lambda leaf: 2 * leaf, params[-1]))
    ]
    close(grads[0][:-1], grads[1][:-1])
    assert not np.allclose(grads[0][-1]["w"], grads[1][-1]["w"])


def test_alignment_with_a_gradient_that_is_no_reference_is_refused() -> None:
    said = "not a reference for 'symba': it trains the goodness of layers that see the class"
    with pytest.raises(UsageError, match=said):
        neurai.with_alignment(neurai.algorithm("symba"), "cross_entropy")
    with pytest.raises(SettingsError, match=f"--align compares .* {said}"):
        choose({"rule": "symba", "align": True}, environ={})


def test_what_it_cannot_train_on_is_said_before_it_trains() -> None:
    rule = neurai.algorithm("symba")
    with pytest.raises(DataError, match="the number of classes is not known"):
        problem(rule, classes=None)
    params, state, batch = problem(rule)
    images = problem_of((jnp.ones((5, 4, 4, 1)), batch[1]), 4)
    with pytest.raises(ModelError, match="takes networks of vectors"):
        rule.init(MODEL, params, key=jax.random.key(0), problem=images)
    with pytest.raises(UsageError, match=r"'symba'.*: estimate needs a key, and none was given"):
        rule.estimate(MODEL, params, state, batch)

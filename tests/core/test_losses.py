"""Losses and accuracies against their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.errors import UnknownName, UsageError
from neurai_core.losses import ACCURACIES, LOSSES, accuracy_function, loss_function

OUTPUTS = np.random.default_rng(0).normal(size=(6, 7))
LABELS = np.array([0, 3, 6, 1, 1, 5])
ONE_HOT = np.eye(7)[LABELS]
SOFTMAX = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=1, keepdims=True)
DISTANCE = np.abs(OUTPUTS - ONE_HOT)

DEFINITIONS = {
    "cross_entropy": -np.log(SOFTMAX[np.arange(6), LABELS]).mean(),
    "sum_cross_entropy": -np.log(SOFTMAX[np.arange(6), LABELS]).sum(),
    "binary_cross_entropy": (np.log1p(np.exp(OUTPUTS)) - ONE_HOT * OUTPUTS).mean(),
    "mse": (DISTANCE**2).mean(),
    "squared_error": 0.5 * (DISTANCE**2).sum(axis=1).mean(),
    "sum_squared_error": 0.5 * (DISTANCE**2).sum(),
    "mae": DISTANCE.mean(),
    "huber": np.where(DISTANCE <= 1, 0.5 * DISTANCE**2, DISTANCE - 0.5).mean(),
    "accuracy": (OUTPUTS.argmax(axis=1) == LABELS).mean(),
    "top_5_accuracy": (np.argsort(-OUTPUTS, axis=1)[:, :5] == LABELS[:, None]).any(axis=1).mean(),
    "binary_accuracy": ((OUTPUTS >= 0) == (ONE_HOT == 1)).mean(),
}


@pytest.mark.parametrize("name", [*LOSSES, *ACCURACIES])
@pytest.mark.parametrize("targets", [LABELS, ONE_HOT], ids=["labels", "one-hot"])
def test_a_named_score_is_its_definition(x64, name, targets):
    score = {**LOSSES, **ACCURACIES}[name]
    value = score.call(jnp.asarray(OUTPUTS), jnp.asarray(targets))
    assert value.shape == () and value.dtype == jnp.float64
    np.testing.assert_allclose(value, DEFINITIONS[name], rtol=1e-12)
    assert score.reduction


@pytest.mark.parametrize("name", [*LOSSES, *ACCURACIES])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_score_keeps_the_dtype_of_the_outputs(name, dtype):
    score = {**LOSSES, **ACCURACIES}[name]
    assert score.call(jnp.asarray(OUTPUTS, dtype), jnp.asarray(LABELS)).dtype == dtype


def test_regression_targets_stay_as_they_are(x64):
    targets = jnp.asarray(OUTPUTS) + 2.0
    np.testing.assert_allclose(loss_function("mse")(jnp.asarray(OUTPUTS), targets), 4.0)


def test_names_fold_case_and_dashes():
    assert loss_function("Cross-Entropy") is LOSSES["cross_entropy"].call


def test_a_callable_is_taken_as_it_is():
    assert loss_function(jax.nn.relu) is jax.nn.relu
    assert accuracy_function(None) is None


def test_an_unknown_loss_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'cross_entropy'"):
        loss_function("cros_entropy")
    with pytest.raises(UsageError, match="expected a name or a callable"):
        loss_function(3)

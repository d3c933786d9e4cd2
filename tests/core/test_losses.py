"""Losses and accuracies against their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, UnknownName, UsageError
from neurai_core.grads import BP
from neurai_core.losses import ACCURACIES, LOSSES, accuracy_function, loss_function, score_function

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


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_loss_keeps_the_dtype_of_the_outputs(name, dtype):
    assert LOSSES[name].call(jnp.asarray(OUTPUTS, dtype), jnp.asarray(LABELS)).dtype == dtype


@pytest.mark.parametrize("name", ACCURACIES)
def test_an_accuracy_is_not_rounded_to_the_outputs(name):
    """2995 of 3000 is 1 in bfloat16, and 0.9983 is the number."""
    right = jnp.ones((3000, 6), jnp.bfloat16).at[:, 1:].set(-1)
    labels = jnp.zeros(3000, int).at[:5].set(5)
    targets = jnp.ones((3000, 6)).at[:, 1:].set(0).at[:5].set(right[0] < 0)
    value = ACCURACIES[name].call(right, targets if name == "binary_accuracy" else labels)
    np.testing.assert_allclose(value, 2995 / 3000, rtol=1e-6)


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


# ---------------------------------------------------------------------------- what outputs and targets may be

CLASSES = ["cross_entropy", "sum_cross_entropy", "accuracy", "top_5_accuracy"]
NUMBERS = [name for name in [*LOSSES, *ACCURACIES] if name not in CLASSES]
floats, integers = jnp.zeros, lambda *shape: jnp.zeros(shape, int)


def score_of(name):
    return score_function(name)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((3, 1), (3,)), ((3,), (3, 1)), ((3, 1), (1, 1)), ((3, 2), (3,)), ((3, 2), (2,)), ((3, 2), (3, 3)), ((2, 3), ())],
)
def test_numbers_are_never_broadcast(name, outputs, targets):
    with pytest.raises(DataError, match=rf"{name} got targets float32.* expected .*numbers of shape \({outputs[0]}, *"):
        score_of(name)(floats(outputs), floats(targets))


@pytest.mark.parametrize("name", NUMBERS)
def test_integers_of_one_column_are_numbers_not_labels(name):
    """As labels of one class they would become one-hot rows: 0 a target of 1, and 1 a target of 0."""
    with pytest.raises(DataError, match=r"Use targets\[\.\.\., None\]"):
        score_of(name)(floats((3, 1)), jnp.array([0, 1, 1]))
    column = score_of(name)(floats((3, 1)) + 0.5, jnp.array([[0], [1], [1]]))
    assert column == score_of(name)(floats(3) + 0.5, jnp.array([0, 1, 1]))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (floats(6), integers(6), r"expected \(B, \.\.\., C\)"),
        (floats((6, 1)), integers(6), r"expected \(B, \.\.\., C\)"),
        (floats((6, 7)), integers(6, 1), r"labels of shape \(6,\).*\n.*targets\[\.\.\., 0\]"),
        (floats((6, 7)), integers(), r"labels of shape \(6,\)"),
        (floats((6, 7)), floats(6), "Labels are integers"),
        (floats((6, 7)), jnp.zeros(6, bool), "Labels are integers"),
        (floats((6, 7)), floats((6, 5)), r"gives 7 numbers per example, and the targets have 5"),
        (floats((6, 7)), integers(5), r"labels of shape \(6,\)"),
        (floats((10, 25, 10)), jnp.arange(10), r"labels of shape \(10, 25\)(.|\n)*outputs\.mean"),
    ],
)
def test_classes_want_one_label_or_one_row_per_example(name, outputs, targets, words):
    with pytest.raises(DataError, match=words):
        score_of(name)(outputs, targets)


def test_the_five_best_of_three_classes_are_refused():
    with pytest.raises(DataError, match=r"at least 5 classes(.|\n)*Use accuracy"):
        score_of("top_5_accuracy")(floats((4, 3)), integers(4))


def test_a_sequence_has_a_label_per_step():
    assert score_of("cross_entropy")(floats((10, 25, 10)), integers(10, 25)) == pytest.approx(np.log(10))


@pytest.mark.parametrize("name", [*LOSSES, *ACCURACIES])
@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (integers(4, 6), integers(4), r"outputs int32\[4,6\], expected floating point"),
        (floats((4, 6)), np.array(["a", "b", "c", "d"]), "targets str32.*expected integer labels or real numbers"),
        (floats((4, 6)), jnp.zeros((4, 6), complex), "targets complex64"),
        (floats((4, 6)), [0, 1, 2, 3], "targets of type list, expected one array"),
        (floats((4, 6)), None, "targets of type NoneType"),
        ((floats((4, 6)), floats((4, 6))), integers(4), "outputs of type tuple, expected one array"),
        (floats((0, 6)), integers(0), r"empty batch: outputs float32\[0,6\]"),
        (floats(()), floats(()), r"expected \(B, \.\.\."),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(name, outputs, targets, words):
    with pytest.raises(DataError, match=words):
        score_of(name)(outputs, targets)


def test_bools_are_numbers(x64):
    hot = ONE_HOT == 1
    for name in ("cross_entropy", "binary_cross_entropy", "mse", "accuracy", "binary_accuracy"):
        np.testing.assert_allclose(score_of(name)(jnp.asarray(OUTPUTS), hot), DEFINITIONS[name], rtol=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, *ACCURACIES])
@pytest.mark.parametrize("label", [7, -1])
def test_a_label_outside_the_classes_is_an_error_or_nan(name, label):
    labels = jnp.array([0, 1, 2, 3, 4, label])
    with pytest.raises(DataError, match=f"{name} got label {label} in row 5, outside the classes 0..6"):
        score_of(name)(floats((6, 7)), labels)
    assert jnp.isnan(jax.jit(score_of(name))(floats((6, 7)), labels))


def test_labels_that_count_from_one_get_the_fix():
    with pytest.raises(DataError, match="count from 1: subtract 1"):
        score_of("cross_entropy")(floats((3, 3)), jnp.array([1, 2, 3]))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("binary_cross_entropy", -1),
        ("binary_cross_entropy", 1.5),
        ("binary_cross_entropy", np.nan),
        ("binary_accuracy", 2),
        ("cross_entropy", -0.5),
        ("accuracy", np.nan),
    ],
)
def test_a_target_that_is_no_probability_is_an_error_or_nan(name, number):
    targets = jnp.zeros((2, 3)).at[1, 2].set(number)
    with pytest.raises(DataError, match=rf"{name} got target .* in row 1 \(at \(1, 2\)\)"):
        score_of(name)(floats((2, 3)), targets)
    assert jnp.isnan(jax.jit(score_of(name))(floats((2, 3)), targets))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_small_integers_are_labels_of_many_classes(dtype):
    labels = np.array([1, 100], dtype)
    outputs = jnp.zeros((2, 300)).at[0, 1].set(9.0)
    for score in (score_of("accuracy"), jax.jit(score_of("accuracy"))):
        assert score(outputs, labels) == 0.5
    assert jax.jit(score_of("cross_entropy"))(floats((2, 300)), labels) == pytest.approx(np.log(300))


# ---------------------------------------------------------------------------- reached through classes and rules

MODEL = neurai.models.mlp((4, 3))
COLUMN = {"w": 0.3 * jnp.ones((4, 1))}
X = jnp.ones((3, 4)) * jnp.arange(3)[:, None]
Y = jnp.array([0, 1, 0.5])


def linear(params, x):
    return x @ params["w"]


def estimated(name, batch, jit=False, loss="cross_entropy"):
    rule = neurai.algorithm(name, loss=loss, accuracy=None if callable(loss) else "accuracy")
    model, (params, _) = MODEL, MODEL.init(jax.random.key(0), (4,))
    if name == "bipc":
        model, params = rule.extended(model, params, key=jax.random.key(1), input_shape=(4,))
    if name == "eprop":
        model = neurai.models.spiking.snn((4, 5, 3), surrogate=neurai.surrogate("superspike"), steps=2)
        params, _ = model.init(jax.random.key(0), (4,))

    def estimate(batch):
        state = rule.init(model, params, key=jax.random.key(0))
        return rule.estimate(model, params, state, batch, key=jax.random.key(0))[0]

    return (jax.jit(estimate) if jit else estimate)(batch)


@pytest.mark.parametrize("loss", ["mae", "mse", "huber", "squared_error", "sum_squared_error"])
def test_the_class_api_refuses_to_broadcast(loss):
    with pytest.raises(DataError, match=rf"{loss} got targets float32\[3\] for outputs float32\[3,1\]"):
        BP(loss).get_grads(linear, COLUMN, (X, Y))
    with pytest.raises(DataError, match=rf"{loss} got targets float32\[3,1\] for outputs float32\[3\]"):
        BP(loss).get_grads(lambda params, x: linear(params, x)[:, 0], COLUMN, (X, Y[:, None]))


def test_targets_in_the_shape_of_the_outputs_give_the_documented_value():
    assert BP("mae").get_grads(linear, COLUMN, (X, Y[:, None]))[1] == pytest.approx(0.7)


def test_the_class_api_looks_at_the_labels_of_the_first_batch_and_later_ones_give_nan():
    params, _ = MODEL.init(jax.random.key(0), (4,))
    method = BP("cross_entropy", "accuracy")
    with pytest.raises(DataError, match="label 3 in row 2"):
        method.get_grads(MODEL, params, (X, jnp.array([0, 1, 3])))
    with pytest.raises(DataError, match="label -1 in row 0"):
        method.predict(MODEL, params, (X, jnp.array([-1, 1, 2])))
    method.predict(MODEL, params, (X, jnp.arange(3)))
    assert all(jnp.isnan(value) for value in method.predict(MODEL, params, (X, jnp.array([-1, 1, 2]))))


@pytest.mark.parametrize("rule", ["bp", "pc", "bipc", "ep", "eprop"])
@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((X, jnp.array([0, 1, 3])), "cross_entropy got label 3 in row 2"),
        ((X, jnp.array([0, -1, 2])), "cross_entropy got label -1 in row 1"),
        ((X, jnp.zeros((3, 1), int)), r"cross_entropy got targets int32\[3,1\]"),
        ((X, Y), "Labels are integers"),
        ((X, jnp.arange(2)), "x has 3 rows and y has 2"),
        ((X[:0], jnp.arange(0)), r"The batch is empty: x is float32\[0,4\]"),
        ((X, jnp.arange(3), 1), "tuple of 3, expected the pair"),
    ],
)
def test_every_rule_refuses_a_batch_that_does_not_fit(rule, batch, words):
    with pytest.raises(DataError, match=words):
        estimated(rule, batch)


@pytest.mark.parametrize("label", [3, -1])
def test_a_compiled_rule_reports_nan_for_a_label_outside_the_classes(label):
    found = estimated("bp", (X, jnp.array([0, 1, label])), jit=True)
    assert jnp.isnan(found.loss) and jnp.isnan(found.accuracy)


@pytest.mark.parametrize("rule", ["bp", "pc", "bipc", "ep", "eprop"])
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, targets: outputs.sum(axis=1), r"The loss returned float32\[3\].*expected one scalar"),
        (lambda outputs, targets: (outputs.sum(), targets), "The loss returned .*expected one scalar(.|\n)*has_aux"),
        (lambda outputs, targets: jnp.argmax(outputs), r"The loss returned int32\[\].*in floating point"),
        (lambda outputs, targets: None, "The loss returned None"),
    ],
)
def test_a_loss_of_ones_own_returns_a_scalar(rule, loss, words):
    with pytest.raises(ModelError, match=words):
        estimated(rule, (X, jnp.arange(3)), loss=loss)


def test_a_loss_that_promises_a_pair_returns_one():
    with pytest.raises(ModelError, match=r"returned float32\[\], expected the pair"):
        BP(lambda outputs, targets: outputs.sum(), fun_has_aux=True).get_grads(linear, COLUMN, (X, Y))


def test_a_loss_of_ones_own_takes_what_it_likes():
    """Labels that mean "leave out", targets that are broadcast, and trees."""

    def masked(outputs, targets):
        return jnp.where(targets["y"] < 0, 0.0, outputs[:, 0] - targets["y"]).sum() * targets["weights"].mean()

    targets = {"y": jnp.array([0, -1, 1]), "weights": jnp.ones((3, 2))}
    assert BP(masked).get_grads(linear, COLUMN, (X, targets))[1] == pytest.approx(1.4)
    assert (
        BP(lambda outputs, y: jnp.sum(y, dtype=outputs.dtype)).get_grads(linear, COLUMN, (X, jnp.array([-1, 5, 1])))[1]
        == 5
    )
    broadcast = BP(lambda outputs, y: jnp.abs(outputs - y).mean())
    assert broadcast.get_grads(linear, COLUMN, (X, Y))[1] == pytest.approx(31 / 30)

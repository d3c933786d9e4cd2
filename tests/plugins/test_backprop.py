"""Back-propagation: equal to `jax.value_and_grad` to the bit, compiled once, kind when it fails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, UnknownName, UsageError
from neurai_core.grads import BP, GradeBase, LocalBase
from neurai_core.layered import Layer, Layered, Variables, dense
from neurai_core.losses import cross_entropy
from neurai_core.models import cnn, mlp

MODELS = {
    "mlp": (mlp((20, 16, 10)), (20,)),
    "tanh mlp": (mlp((20, 16, 12, 10), activation="tanh"), (20,)),
    "cnn": (cnn((4, 6), 10), (8, 8, 1)),
}


def problem(name, dtype=None):
    model, shape = MODELS[name]
    params, _ = model.init(jax.random.key(0), shape)
    draw = np.random.default_rng(1)
    x = jnp.asarray(draw.normal(size=(9, *shape)), float)
    return model, params, (x, jnp.asarray(draw.integers(10, size=9)))


def by_hand(model, params, batch, loss):
    return jax.jit(lambda p, x, y: jax.value_and_grad(lambda p: loss(model(p, x), y))(p))(params, *batch)


def equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def check_equal_to_the_bit(name):
    model, params, batch = problem(name)
    bp = BP("cross_entropy", "accuracy")
    grads, loss, accuracy = bp.get_grads(model, params, batch)
    value, expected = by_hand(model, params, batch, bp.loss_f)
    equal(grads, expected)
    assert loss == value and 0 <= accuracy <= 1


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_gradients_equal_value_and_grad_to_the_bit_in_float32(name):
    check_equal_to_the_bit(name)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["tanh mlp", "cnn"])
def test_gradients_equal_value_and_grad_to_the_bit_in_float64(name, x64):
    check_equal_to_the_bit(name)


def test_any_callable_is_a_model():
    def model(params, x):
        return jnp.tanh(x @ params["w"]) + params["b"]

    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    batch = jnp.arange(12.0).reshape(4, 3), jnp.ones((4, 2))
    grads, loss, accuracy = BP("mse").get_grads(model, params, batch)
    value, expected = by_hand(model, params, batch, BP("mse").loss_f)
    equal(grads, expected)
    assert loss == value and accuracy == -1


def test_outputs_and_targets_may_be_trees():
    def model(params, x):
        return {"class": x @ params["w"], "size": x.sum(axis=1)}

    def loss(outputs, targets):
        return cross_entropy(outputs["class"], targets["class"]) + jnp.mean((outputs["size"] - targets["size"]) ** 2)

    params, x = {"w": jnp.ones((3, 2))}, jnp.ones((4, 3))
    y = {"class": jnp.array([0, 1, 1, 0]), "size": jnp.ones(4)}
    grads = BP(loss).get_grads(model, params, (x, y))[0]
    equal(grads, jax.grad(lambda p: loss(model(p, x), y))(params))
    labels = BP(lambda outputs, y: cross_entropy(outputs["class"], y)).get_grads(model, params, (x, y["class"]))[0]
    assert labels["w"].shape == (3, 2)
    halves = {"left": x[:, :1], "right": x[:, 1:]}
    joined = lambda params, x: jnp.concatenate([x["left"], x["right"]], axis=1) @ params["w"]  # noqa: E731
    equal(BP("cross_entropy").get_grads(joined, params, (halves, y["class"]))[0], labels)
    with pytest.raises(DataError, match=r"4 .* 3"):
        BP(loss).get_grads(model, params, (x, y | {"size": jnp.ones(3)}))


def test_a_thousand_calls_trace_once():
    traces = []

    def loss(outputs, targets):
        traces.append(1)
        return jnp.mean((outputs - targets) ** 2)

    model, params, (x, _) = problem("mlp")
    batch = x, jnp.zeros((9, 10))
    bp = BP(loss)
    bp.get_grads(model, params, batch)
    checked = len(traces)
    for _ in range(999):
        bp.get_grads(mlp((20, 16, 10)), params, batch)
    assert len(traces) == checked


def test_accuracy_is_minus_one_without_a_function():
    model, params, batch = problem("mlp")
    assert BP("cross_entropy").get_grads(model, params, batch)[2] == -1
    assert BP("cross_entropy").predict(model, params, batch)[1] == -1


def test_the_second_part_of_a_loss_is_handed_back_and_not_differentiated():
    def loss(outputs, targets):
        return jnp.mean(outputs**2), {"mean output": outputs.mean()}

    model, params, batch = problem("mlp")
    grads, value, _, aux = BP(loss, fun_has_aux=True).get_grads(model, params, batch)
    plain = BP(lambda outputs, targets: loss(outputs, targets)[0]).get_grads(model, params, batch)
    equal(grads, plain[0])
    np.testing.assert_allclose(aux["mean output"], model(params, batch[0]).mean(), rtol=1e-6)
    assert BP(loss, fun_has_aux=True).predict(model, params, batch)[2].keys() == {"mean output"}
    assert value == plain[1]


def test_return_param_hands_the_parameters_back():
    model, params, batch = problem("mlp")
    *_, returned = BP("cross_entropy").get_grads(model, params, batch, return_param=True)
    equal(returned, params)


def running_mean(params, model_state, x, *, key=None, train=False):
    mean = x.mean(axis=0) if train else model_state
    return x - mean, 0.5 * model_state + 0.5 * mean if train else model_state


def test_return_param_brings_the_updated_collections():
    centering = Layer(lambda key, shape: ((), jnp.zeros(shape)), running_mean, name="center", stateful=True)
    model = Layered((centering, dense(2)))
    variables = Variables(*model.init(jax.random.key(0), (3,)))
    x = jnp.arange(12.0).reshape(4, 3)
    grads, _, _, updated = BP("mse").get_grads(model, variables, (x, jnp.zeros((4, 2))), return_param=True)
    np.testing.assert_array_equal(updated.model_state[0], 0.5 * x.mean(axis=0))
    assert jax.tree.structure(grads) == jax.tree.structure(variables)
    np.testing.assert_array_equal(grads.model_state[0], jnp.zeros(3))
    optimizer = optax.sgd(0.1)
    optax.apply_updates(variables, optimizer.update(grads, optimizer.init(variables))[0])


def test_keywords_go_to_the_loss_as_traced_numbers():
    def loss(outputs, targets, weight=1.0):
        return weight * jnp.mean((outputs - targets) ** 2)

    model, params, (x, _) = problem("mlp")
    bp = BP(loss)
    single = bp.get_grads(model, params, (x, jnp.zeros((9, 10))))[1]
    double = bp.get_grads(model, params, (x, jnp.zeros((9, 10))), weight=2.0)[1]
    np.testing.assert_allclose(double, 2 * single, rtol=1e-6)


def test_it_works_inside_jit_and_vmap():
    model, params, (x, y) = problem("mlp")
    bp = BP("cross_entropy")
    outside = bp.get_grads(model, params, (x, y))[0]
    inside = jax.jit(lambda p, x, y: bp.get_grads(model, p, (x, y))[0])(params, x, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), outside, inside)
    stacked = jax.vmap(lambda x: bp.get_grads(model, params, (x, y))[0])(jnp.stack([x, x]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[1], rtol=1e-5, atol=1e-7), outside, stacked)


def test_the_rule_and_the_class_agree():
    model, params, batch = problem("cnn")
    rule = neurai.algorithm("bp", loss="cross_entropy", accuracy="accuracy")
    state = rule.init(model, params, key=jax.random.key(0))
    assert state == ()
    estimate, state = jax.jit(rule.estimate, static_argnums=0)(model, params, state, batch)
    grads, loss, accuracy = BP("cross_entropy", "accuracy").get_grads(model, params, batch)
    equal(estimate.grads, grads)
    assert (estimate.loss, estimate.accuracy, estimate.aux, state) == (loss, accuracy, {}, ())
    np.testing.assert_array_equal(rule.predict(model, params, batch[0]), model(params, batch[0]))


def test_a_built_rule_knows_where_it_comes_from_and_is_rebuilt():
    rule = neurai.algorithm("bp", loss="mse")
    assert (rule.origin.kind, rule.origin.name, rule.origin.distribution) == ("algorithm", "bp", "neurai")
    model, params, (x, _) = problem("mlp")
    again = neurai.rebuild(type(rule.origin).from_json(rule.origin.to_json()))
    batch = x, jnp.zeros((9, 10))
    equal(rule.estimate(model, params, (), batch)[0].grads, again.estimate(model, params, (), batch)[0].grads)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda m, p, x, y: (m, p, (x[:0], y[:0])), DataError, "empty"),
        (lambda m, p, x, y: (m, p, (x, y[:3])), DataError, "9 rows and .* 3"),
        (lambda m, p, x, y: (m, p, (x, y + 5)), DataError, "outside the classes 0..9"),
        (lambda m, p, x, y: (m, p, (x.at[2, 1].set(jnp.nan), y)), DataError, "nan"),
        (lambda m, p, x, y: (m, p, (x[:, :7], y)), ModelError, r"Layer 0 \(dense\(16\)\).*\[9,7\]"),
        (lambda m, p, x, y: (m, p[:1], (x, y)), ModelError, "expected a tuple of 2"),
        (lambda m, p, x, y: (m, {"w": x}, (x, y)), ModelError, "expected a tuple of 2"),
        (lambda m, p, x, y: (m, p, x), DataError, r"expected the pair \(x, y\)"),
        (lambda m, p, x, y: (3, p, (x, y)), ModelError, "The model is a int"),
        (lambda m, p, x, y: (m, p, (x, jnp.zeros((9, 4)))), DataError, "gives 10 numbers .* have 4"),
    ],
)
def test_bad_input_is_one_clear_error(change, error, words):
    model, params, (x, y) = problem("mlp")
    with pytest.raises(error, match=words):
        BP("cross_entropy").get_grads(*change(model, params, x, y))


def test_a_loss_that_is_not_scalar_is_named():
    model, params, batch = problem("mlp")
    with pytest.raises(ModelError, match=r"The loss returned float32\[9\].*expected one scalar"):
        BP(lambda outputs, targets: outputs.sum(axis=1)).get_grads(model, params, batch)


def test_an_unknown_loss_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'mse'"):
        BP("msee")


def test_the_base_classes_hold_their_arguments_and_name_no_rule():
    for base in (GradeBase, LocalBase):
        method = base("mse", "accuracy", True)
        assert callable(method.loss_f) and callable(method.acc_f) and method.fun_has_aux
        with pytest.raises(UsageError, match=f"{base.__name__} does not name a learning rule"):
            method.rule()

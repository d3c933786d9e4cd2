"""Feedback alignment is back-propagation with other weights on the way back: what follows from that."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurai_feedback_alignment import direct_feedback_alignment, feedback_alignment
from neurai_feedback_alignment.equations import definition

import neurai_core as neurai
from neurai_core.errors import ModelError, SettingsError
from neurai_core.layered import Layered, block, conv, dense, flatten, max_pool, residual
from neurai_core.losses import loss_function
from neurai_core.models import mlp as mlp_of
from neurai_core.rule import Rule, State

RULES = ("feedback-alignment", "direct-feedback-alignment")


@pytest.fixture(autouse=True)
def found_by_name() -> Iterator[None]:
    """Whether or not the distribution is installed here."""
    with (
        neurai.temporary(feedback_alignment, replace=True),
        neurai.temporary(direct_feedback_alignment, replace=True),
    ):
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def problem(model: Layered, shape: tuple[int, ...], outputs: int) -> tuple:
    """Parameters and a batch of 7 random examples."""
    params, _ = model.init(jax.random.key(0), shape)
    x = jax.random.normal(jax.random.key(1), (7, *shape))
    return params, (x, jax.random.randint(jax.random.key(2), (7,), 0, outputs))


def mlp() -> tuple:
    model = mlp_of((5, 8, 6, 4), activation="tanh")
    return model, *problem(model, (5,), 4)


def cnn() -> tuple:
    layers = (conv(3, 3, activation="tanh"), max_pool(2), flatten(), dense(6, "tanh"), dense(4))
    return Layered(layers), *problem(Layered(layers), (6, 6, 2), 4)


def assert_close(a: object, b: object) -> None:
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-14), a, b)


def back_propagation(model: Layered, params: object, batch: tuple) -> object:
    loss = loss_function("cross_entropy")
    return jax.grad(lambda params: loss(model(params, batch[0]), batch[1]))(params)


@pytest.mark.parametrize("make", [mlp, cnn])
def test_feedback_through_the_true_weights_is_back_propagation(float64, make) -> None:
    model, params, batch = make()
    rule = neurai.algorithm("feedback-alignment")
    estimate, _ = rule.estimate(model, params, State((), own=params), batch)
    assert_close(estimate.grads, back_propagation(model, params, batch))


def test_it_is_its_definition(float64) -> None:
    model, params, batch = mlp()
    rule = neurai.algorithm("feedback-alignment")
    state = rule.init(model, params, key=jax.random.key(3))
    estimate, _ = rule.estimate(model, params, state, batch)
    assert_close(estimate.grads, definition(None, loss_function("cross_entropy"), model, params, state, batch))


def test_direct_feedback_through_the_true_weights_of_a_linear_network_is_back_propagation(float64) -> None:
    model = mlp_of((5, 8, 6, 4), activation="identity")
    params, batch = problem(model, (5,), 4)
    _, second, third = (layer["w"] for layer in params)
    true = (third.T @ second.T, third.T)
    rule = neurai.algorithm("direct-feedback-alignment")
    estimate, _ = rule.estimate(model, params, State((), own=true), batch)
    assert_close(estimate.grads, back_propagation(model, params, batch))


@pytest.mark.parametrize("name", RULES)
def test_the_last_layer_learns_by_the_exact_gradient_and_the_first_does_not(float64, name) -> None:
    model, params, batch = mlp()
    rule = neurai.algorithm(name)
    estimate, _ = rule.estimate(model, params, rule.init(model, params, key=jax.random.key(3)), batch)
    exact = back_propagation(model, params, batch)
    assert_close(estimate.grads[-1], exact[-1])
    assert not np.allclose(estimate.grads[0]["w"], exact[0]["w"])


@pytest.mark.parametrize("name", RULES)
def test_the_feedback_weights_are_drawn_once_and_stay(name) -> None:
    model, params, batch = mlp()
    rule = neurai.algorithm(name)
    state = rule.init(model, params, key=jax.random.key(3))
    _, after = jax.jit(rule.estimate, static_argnums=0)(model, params, state, batch, key=jax.random.key(4))
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("name", RULES)
def test_loss_accuracy_and_what_the_loss_hands_back_are_those_of_the_forward_pass(float64, name) -> None:
    model, params, batch = mlp()

    def loss(outputs: jax.Array, targets: jax.Array) -> tuple:
        return loss_function("cross_entropy")(outputs, targets), outputs.sum()

    rule, bp = (neurai.algorithm(n, loss=loss, accuracy="accuracy", has_aux=True) for n in (name, "bp"))
    found, _ = rule.estimate(model, params, rule.init(model, params, key=jax.random.key(3)), batch)
    exact, _ = bp.estimate(model, params, (), batch)
    assert_close((found.loss, found.accuracy, found.aux), (exact.loss, exact.accuracy, exact.aux))


def test_scale_is_the_spread_of_the_feedback_weights_and_may_be_traced() -> None:
    model, params, _ = mlp()

    def feedback(scale: jax.Array) -> jax.Array:
        state = neurai.algorithm("feedback-alignment", scale=scale).init(model, params, key=jax.random.key(3))
        return state.own[1]["w"]

    one, two = jax.vmap(feedback)(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


def trained(rule: Rule, steps: int) -> tuple:
    data = neurai.dataset("digits")
    model = Layered((flatten(), *mlp_of((64, 64, 10)).layers))
    params, _ = model.init(jax.random.key(0), data.input_shape)
    state = rule.init(model, params, key=jax.random.key(3))
    step = jax.jit(rule.estimate, static_argnums=0)
    estimates = []
    for _ in range(steps):
        estimate, state = step(model, params, state, (data.x_train, data.y_train))
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, estimate.grads)
        estimates.append(estimate)
    return estimates[0], estimates[-1]


@pytest.mark.parametrize("name", RULES)
def test_the_forward_weights_come_to_align_with_the_feedback_weights(name) -> None:
    """As Lillicrap et al. 2016 found: the angle to back-propagation falls well below 90 degrees."""
    rule = neurai.with_alignment(neurai.algorithm(name), "cross_entropy")
    first, last = trained(rule, 60)
    assert last.loss < 0.5 * first.loss
    assert last.aux["alignment"]["cosine"][0] > max(0.3, first.aux["alignment"]["cosine"][0])


@pytest.mark.parametrize("name", RULES)
def test_a_layer_that_hides_its_weights_is_refused_by_name(name) -> None:
    model = Layered((dense(4), residual(block(dense(4, "relu"))), dense(4)))
    params, _ = problem(model, (5,), 4)
    with pytest.raises(ModelError, match=r"Layer 1 \(residual"):
        neurai.algorithm(name).init(model, params, key=jax.random.key(3))


def test_direct_feedback_alignment_refuses_a_convolution_by_name() -> None:
    model, params, _ = cnn()
    with pytest.raises(ModelError, match=r"Layer 0 \(conv"):
        neurai.algorithm("direct-feedback-alignment").init(model, params, key=jax.random.key(3))


@pytest.mark.parametrize("name", RULES)
def test_models_of_other_libraries_are_taken_in_layers(float64, name) -> None:
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(5, 4, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    model, params, _ = neurai.as_layered(mlp)
    _, batch = problem(mlp_of((5, 4)), (5,), 4)
    rule = neurai.algorithm(name)
    estimate, _ = rule.estimate(model, params, rule.init(model, params, key=jax.random.key(3)), batch)
    assert_close(estimate.grads[-1], back_propagation(model, params, batch)[-1])


# ---------------------------------------------------------------------------- networks of named values


def named_mlp(params: tuple, x: jax.Array) -> jax.Array:
    """`mlp` with its pre-activations named."""
    for index, layer in enumerate(params):
        x = neurai.activity(x @ layer["w"] + layer["b"], f"u{index}")
        x = jnp.tanh(x) if index + 1 < len(params) else x
    return x


def skipping(params: dict, x: jax.Array) -> jax.Array:
    """A skip connection, and a scale that is no matrix."""
    a = neurai.activity(x @ params["a"], "a")
    b = neurai.activity(params["scale"] * jnp.tanh(a) @ params["b"], "b")
    return jnp.tanh(a + b) @ params["out"]


@pytest.fixture
def skip_params(float64) -> dict:
    shapes = {"a": (5, 6), "scale": (6,), "b": (6, 6), "out": (6, 4)}
    keys = jax.random.split(jax.random.key(5), 4)
    return {name: jax.random.normal(k, shape) / 2 for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def test_on_a_chain_of_names_it_is_what_it_is_on_layers(float64) -> None:
    model, params, batch = mlp()
    rule = neurai.algorithm("feedback-alignment")
    state = rule.init(model, params, key=jax.random.key(3))
    layers, names = (rule.estimate(m, params, state, batch)[0] for m in (model, named_mlp))
    assert_close((names.grads, names.loss), (layers.grads, layers.loss))


def test_on_a_network_feedback_through_the_true_weights_is_back_propagation(skip_params) -> None:
    _, _, batch = mlp()
    estimate, _ = neurai.algorithm("feedback-alignment").estimate(skipping, skip_params, State((), skip_params), batch)
    assert_close(estimate.grads, back_propagation(skipping, skip_params, batch))


def test_on_a_network_errors_travel_through_the_feedback_weights(skip_params) -> None:
    """By hand: the matrices of the way back are others, its scale and its slopes are those of the forward pass."""
    _, _, (x, y) = mlp()
    rule = neurai.algorithm("feedback-alignment")
    state = rule.init(skipping, skip_params, key=jax.random.key(3))
    found, _ = rule.estimate(skipping, skip_params, state, (x, y))
    w, back = skip_params, state.own
    a = x @ w["a"]
    b = w["scale"] * jnp.tanh(a) @ w["b"]
    top = jnp.tanh(a + b)
    e = (jax.nn.softmax(top @ w["out"]) - jax.nn.one_hot(y, 4)) / len(x)
    at_b = (e @ back["out"].T) * (1 - top**2)
    at_a = at_b + (at_b @ back["b"].T) * w["scale"] * (1 - jnp.tanh(a) ** 2)
    seen = jnp.tanh(a) * (at_b @ w["b"].T)  # a scale learns beside the matrix that is its prediction's own
    by_hand = {
        "a": x.T @ at_a,
        "b": (w["scale"] * jnp.tanh(a)).T @ at_b,
        "out": top.T @ e,
        "scale": seen.sum(0),
    }
    assert_close(found.grads, by_hand)


def test_a_module_with_a_forward_pass_of_its_own_learns() -> None:
    nn = pytest.importorskip("flax.linen")

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.relu(nn.Dense(32)(x.reshape(len(x), -1)))
            return nn.Dense(10)(h + nn.relu(nn.Dense(32)(h)))

    data = neurai.dataset("digits")
    adapted = neurai.adapt(neurai.named(Own(), "auto"), needs="network")
    params, _ = adapted.split(Own().init(jax.random.key(0), data.x_train[:1]))
    rule = neurai.algorithm("feedback-alignment")
    state = rule.init(adapted.model, params, key=jax.random.key(3))
    step, losses = jax.jit(rule.estimate, static_argnums=0), []
    for _ in range(60):
        estimate, state = step(adapted.model, params, state, (data.x_train, data.y_train))
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, estimate.grads)
        losses.append(float(estimate.loss))
    assert losses[-1] < 0.5 * losses[0]


def test_a_name_that_occurs_again_is_refused() -> None:
    def twice(params: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(neurai.activity(neurai.activity(x @ params, "h") @ params, "h")) @ params

    params, batch = jnp.ones((4, 4)), (jnp.ones((2, 4)), jnp.zeros(2, int))
    rule = neurai.algorithm("feedback-alignment")
    with pytest.raises(ModelError, match="'h' occurs 2 times"):
        rule.estimate(twice, params, rule.init(twice, params, key=jax.random.key(0)), batch)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="scale"):
        neurai.algorithm("feedback-alignment", scale=0.0)

"""Direct random target projection: hidden layers learn from the target, and alone. What follows from that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurai_target_projection import drtp
from neurai_target_projection.equations import definition

import neurai_core as neurai
from neurai_core.errors import ModelError, SettingsError, UsageError
from neurai_core.layered import Layered, block, conv, dense, flatten, max_pool, residual
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp as mlp_of
from neurai_core.rule import State, problem_of


@pytest.fixture(autouse=True)
def found_by_name() -> Iterator[None]:
    """Whether or not the distribution is installed here."""
    with neurai.temporary(drtp, replace=True):
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
    layers = (conv(3, 3, activation="tanh"), max_pool(2), flatten(), residual(block(dense(27, "tanh"))), dense(4))
    return Layered(layers), *problem(Layered(layers), (6, 6, 1), 4)


def named_mlp(params: tuple, x: jax.Array) -> jax.Array:
    """`mlp` with the outputs of its hidden layers named."""
    for index, layer in enumerate(params):
        x = x @ layer["w"] + layer["b"]
        x = neurai.activity(jnp.tanh(x), f"layer{index:03}") if index + 1 < len(params) else x
    return x


def skipping(params: dict, x: jax.Array) -> jax.Array:
    """A skip connection, and a scale that is no matrix."""
    a = neurai.activity(jnp.tanh(x @ params["a"]), "a")
    b = neurai.activity(jnp.tanh(params["scale"] * a @ params["b"]), "b")
    return (a + b) @ params["out"]


def started(model: Any, params: Any, batch: tuple, **settings: Any) -> tuple:
    """The rule, and its first state."""
    rule = neurai.algorithm("drtp", accuracy="accuracy", **settings)
    return rule, rule.init(model, params, key=jax.random.key(3), problem=problem_of(batch))


def assert_close(a: object, b: object) -> None:
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-14), a, b)


def back_propagation(model: Any, params: object, batch: tuple) -> Any:
    return jax.grad(lambda params: cross_entropy(model(params, batch[0]), batch[1]))(params)


def test_it_is_its_definition_on_layers_and_on_names(float64) -> None:
    model, params, batch = mlp()
    rule, state = started(model, params, batch)
    expected = definition(None, cross_entropy, model, params, state, batch)
    for one in (model, named_mlp):
        assert_close(rule.estimate(one, params, state, batch)[0].grads, expected)


@pytest.mark.slow
def test_only_the_last_layer_learns_from_the_error(float64) -> None:
    """Whatever the loss, hidden layers learn the same; the last one learns by its exact gradient."""
    model, params, batch = cnn()
    rule, state = started(model, params, batch)
    other, _ = started(model, params, batch, loss=lambda outputs, targets: jnp.mean(outputs**2))
    ours, theirs = (one.estimate(model, params, state, batch)[0] for one in (rule, other))
    assert_close(ours.grads[:-1], theirs.grads[:-1])
    assert_close(ours.grads[-1], back_propagation(model, params, batch)[-1])
    assert not np.allclose(ours.grads[-1]["w"], theirs.grads[-1]["w"])


def test_the_projections_are_drawn_once_and_stay() -> None:
    model, params, batch = cnn()
    rule, state = started(model, params, batch)
    assert {name: b.shape for name, b in state.own.items()} == {"layer000": (4, 6, 6, 3), "layer003": (4, 27)}
    _, after = jax.jit(rule.estimate, static_argnums=0)(model, params, state, batch, key=jax.random.key(4))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_loss_accuracy_and_what_the_loss_hands_back_are_those_of_the_forward_pass(float64) -> None:
    model, params, batch = mlp()

    def loss(outputs: jax.Array, targets: jax.Array) -> tuple:
        return cross_entropy(outputs, targets), outputs.sum()

    rule, state = started(model, params, batch, loss=loss, has_aux=True)
    found, _ = rule.estimate(model, params, state, batch)
    exact, _ = neurai.algorithm("bp", loss=loss, accuracy="accuracy", has_aux=True).estimate(model, params, (), batch)
    assert_close((found.loss, found.accuracy, found.aux), (exact.loss, exact.accuracy, exact.aux))


@pytest.mark.slow
def test_scale_is_the_spread_of_the_projections_and_may_be_traced() -> None:
    model, params, batch = mlp()
    one, two = jax.vmap(lambda scale: started(model, params, batch, scale=scale)[1].own["layer000"])(
        jnp.array([1, 2.0])
    )
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


def test_on_a_network_every_named_value_learns_alone(float64) -> None:
    """By hand, with a skip connection that carries no error."""
    _, _, (x, y) = mlp()
    shapes = {"a": (5, 6), "scale": (6,), "b": (6, 6), "out": (6, 4)}
    keys = jax.random.split(jax.random.key(5), 4)
    w = {name: jax.random.normal(k, shape) / 2 for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    rule, state = started(skipping, w, (x, y))
    found, _ = rule.estimate(skipping, w, state, (x, y))
    a = jnp.tanh(x @ w["a"])
    b = jnp.tanh(w["scale"] * a @ w["b"])
    target = jax.nn.one_hot(y, 4)
    at_a = -target @ state.own["a"] / len(x) * (1 - a**2)
    at_b = -target @ state.own["b"] / len(x) * (1 - b**2)
    e = (jax.nn.softmax((a + b) @ w["out"]) - target) / len(x)
    by_hand = {
        "a": x.T @ at_a,
        "b": (w["scale"] * a).T @ at_b,
        "out": (a + b).T @ e,
        "scale": (a * (at_b @ w["b"].T)).sum(0),
    }
    assert_close(found.grads, by_hand)


@pytest.mark.slow
def test_models_of_other_libraries_are_taken_in_layers(float64) -> None:
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(5, 4, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    model, params, _ = neurai.as_layered(mlp)
    _, batch = problem(mlp_of((5, 4)), (5,), 4)
    rule, state = started(model, params, batch)
    estimate, _ = rule.estimate(model, params, state, batch)
    assert_close(estimate.grads[-1], back_propagation(model, params, batch)[-1])


@pytest.mark.slow
def test_a_module_with_a_forward_pass_of_its_own_learns() -> None:
    nn = pytest.importorskip("flax.linen")

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = neurai.activity(nn.tanh(nn.Dense(32)(x.reshape(len(x), -1))), "below")
            return nn.Dense(10)(h + neurai.activity(nn.tanh(nn.Dense(32)(h)), "above"))

    data = neurai.dataset("digits")
    adapted = neurai.adapt(Own(), needs="network")
    params, _ = adapted.split(Own().init(jax.random.key(0), data.x_train[:1]))
    rule, state = started(adapted.model, params, batch := (data.x_train, data.y_train))
    step, losses = jax.jit(rule.estimate, static_argnums=0), []
    for _ in range(60):
        estimate, state = step(adapted.model, params, state, batch)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, estimate.grads)
        losses.append(float(estimate.loss))
    assert losses[-1] < 0.5 * losses[0]


def test_a_name_that_occurs_again_is_refused() -> None:
    def twice(params: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(neurai.activity(neurai.activity(x @ params, "h") @ params, "h")) @ params

    params, batch = jnp.ones((4, 4)), (jnp.ones((2, 4)), jnp.zeros(2, int))
    with pytest.raises(ModelError, match="'h' occurs 2 times"):
        started(twice, params, batch)


def test_a_last_layer_without_weights_is_refused_by_name() -> None:
    model = Layered((dense(4), flatten()))
    params, batch = problem(model, (5,), 4)
    with pytest.raises(ModelError, match=r"The last layer \(flatten\) has no weights"):
        started(model, params, batch)


def test_it_asks_for_the_problem() -> None:
    model, params, _ = mlp()
    with pytest.raises(UsageError, match="needs the shapes of a batch"):
        neurai.algorithm("drtp").init(model, params, key=jax.random.key(3))


def test_another_state_is_another_rule() -> None:
    model, params, batch = mlp()
    rule, state = started(model, params, batch)
    silent = State((), jax.tree.map(jnp.zeros_like, state.own))
    assert not jax.tree.leaves(rule.estimate(model, params, silent, batch)[0].grads[0])[0].any()


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="scale"):
        neurai.algorithm("drtp", scale=0.0)

"""Feedback alignment is back-propagation with other weights on the way back: what follows from that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.feedback_alignment.rule import build
from neurai_algorithms.feedback_alignment.spec import FAConfig
from neurai_algorithms.way_back import matrices_of
from neurai_core.errors import ModelError, SettingsError
from neurai_core.layered import Layered, avg_pool, block, conv, dense, flatten, max_pool, residual
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp
from neurai_core.rule import Rule, State

pytestmark = pytest.mark.usefixtures("quick_compile")


def problem(model: Layered, shape: tuple[int, ...], outputs: int) -> tuple:
    """Parameters and a batch of 7 random examples."""
    params, _ = model.init(jax.random.key(0), shape)
    return params, (jax.random.normal(jax.random.key(1), (7, *shape)), jnp.arange(7) % outputs)


def chain() -> tuple:
    model = mlp((5, 8, 6, 4), "tanh")
    return model, *problem(model, (5,), 4)


def convolutions() -> tuple:
    layers = conv(3, 3, activation="tanh"), max_pool(2), avg_pool(2), flatten(), dense(6, "tanh"), dense(4)
    return Layered(layers), *problem(Layered(layers), (10, 10, 2), 4)


def named_chain(params: tuple, x: jax.Array) -> jax.Array:
    """`chain` with its pre-activations named."""
    for index, layer in enumerate(params):
        x = neurai.activity(x @ layer["w"] + layer["b"], f"u{index}")
        x = jnp.tanh(x) if index + 1 < len(params) else x
    return x


def skipping(params: dict, x: jax.Array) -> jax.Array:
    """A skip connection, and a scale that is no matrix."""
    a = neurai.activity(x @ params["a"], "a")
    b = neurai.activity(params["scale"] * jnp.tanh(a) @ params["b"], "b")
    return jnp.tanh(a + b) @ params["out"]


def skip() -> tuple:
    shapes = {"a": (5, 6), "scale": (6,), "b": (6, 6), "out": (6, 4)}
    keys = jax.random.split(jax.random.key(5), 4)
    params = {name: jax.random.normal(k, shape) / 2 for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    return skipping, params, chain()[2]


def fa(**settings: Any) -> Rule:
    return build(FAConfig(**settings), loss=cross_entropy)


def back_propagation(model: Any, params: Any, batch: tuple) -> Any:
    return jax.grad(lambda params: cross_entropy(model(params, batch[0]), batch[1]))(params)


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13), a, b)


@pytest.mark.few(1)
@pytest.mark.parametrize("make", [chain, convolutions, skip])
def test_feedback_through_the_transposed_weights_is_back_propagation(make: Callable[[], tuple], x64: None) -> None:
    model, params, batch = make()
    found, _ = fa().estimate(model, params, State((), matrices_of(params)), batch)
    assert_close(found.grads, back_propagation(model, params, batch))


def test_on_a_chain_of_names_it_is_what_it_is_on_layers(x64: None) -> None:
    model, params, batch = chain()
    state = fa().init(model, params, key=jax.random.key(3))
    layers, names = (fa().estimate(one, params, state, batch)[0] for one in (model, named_chain))
    assert_close((names.grads, names.loss), (layers.grads, layers.loss))


def test_on_a_network_errors_travel_through_the_feedback_weights(x64: None) -> None:
    """By hand: the matrices of the way back are others, its scale and its slopes are those of the forward pass."""
    _, w, (x, y) = skip()
    state = fa().init(skipping, w, key=jax.random.key(3))
    found, _ = fa().estimate(skipping, w, state, (x, y))
    _, back_b, back_out = state.own
    a = x @ w["a"]
    b = w["scale"] * jnp.tanh(a) @ w["b"]
    top = jnp.tanh(a + b)
    e = (jax.nn.softmax(top @ w["out"]) - jax.nn.one_hot(y, 4)) / len(x)
    at_b = (e @ back_out.T) * (1 - top**2)
    at_a = at_b + (at_b @ back_b.T) * w["scale"] * (1 - jnp.tanh(a) ** 2)
    by_hand = {
        "a": x.T @ at_a,
        "b": (w["scale"] * jnp.tanh(a)).T @ at_b,
        "out": top.T @ e,
        "scale": (jnp.tanh(a) * (at_b @ w["b"].T)).sum(0),  # it learns beside the matrix of its own prediction
    }
    assert_close(found.grads, by_hand)


@pytest.mark.parametrize(("make", "products"), [(chain, 8), (lambda: (named_chain, *chain()[1:]), 8)])
def test_it_takes_the_matrix_products_of_back_propagation(make: Callable[[], tuple], products: int) -> None:
    """One forward, one for the parameters, and one for the error below in every layer but the first."""
    model, params, batch = make()
    state = fa().init(model, params, key=jax.random.key(3))
    program = jax.jit(partial(fa().estimate, model)).lower(params, state, batch).compile().as_text()
    assert program.count(" dot(") == products


def test_the_feedback_weights_are_drawn_once_and_stay() -> None:
    model, params, batch = chain()
    state = fa().init(model, params, key=jax.random.key(3))
    _, after = jax.jit(fa().estimate, static_argnums=0)(model, params, state, batch, key=jax.random.key(4))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert all(not np.allclose(b, w) for b, w in zip(state.own, matrices_of(params), strict=True))


def test_the_forward_weights_come_to_align_with_the_feedback_weights() -> None:
    """Lillicrap et al. 2016: the angle to back-propagation falls well below 90 degrees while the network learns."""
    data = neurai.dataset("digits")
    model = Layered((flatten(), *mlp((64, 64, 10)).layers))
    params, _ = model.init(jax.random.key(0), data.input_shape)
    rule = neurai.with_alignment(fa(), cross_entropy)
    state = rule.init(model, params, key=jax.random.key(3))
    step = jax.jit(rule.estimate, static_argnums=0)
    seen = []
    for _ in range(60):
        found, state = step(model, params, state, (data.x_train, data.y_train))
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, found.grads)
        seen.append(found)
    angles = [float(jnp.degrees(jnp.arccos(one.aux["alignment"]["cosine"][0]))) for one in (seen[0], seen[-1])]
    assert angles[1] < min(75, angles[0] - 10)
    assert seen[-1].loss < 0.5 * seen[0].loss


def test_a_layer_that_hides_its_weights_is_refused_by_name() -> None:
    model = Layered((dense(4), residual(block(dense(4, "relu"))), dense(4)))
    params, _ = problem(model, (5,), 4)
    with pytest.raises(ModelError, match=r"Layer 1 \(residual.* so fa does not see"):
        fa().init(model, params, key=jax.random.key(3))


def test_a_network_without_a_hidden_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="fa sends errors back to hidden layers, and the model has none"):
        fa().init(mlp((5, 4)), mlp((5, 4)).init(jax.random.key(0), (5,))[0], key=jax.random.key(3))


def test_a_name_that_occurs_again_is_refused() -> None:
    def twice(params: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(neurai.activity(neurai.activity(x @ params, "h") @ params, "h")) @ params

    params, batch = jnp.ones((4, 4)), (jnp.ones((2, 4)), jnp.zeros(2, int))
    with pytest.raises(ModelError, match="'h' occurs 2 times"):
        fa().estimate(twice, params, fa().init(twice, params, key=jax.random.key(0)), batch)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="scale"):
        neurai.algorithm("fa", scale=0.0)

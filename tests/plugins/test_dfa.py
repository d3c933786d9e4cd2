"""Direct feedback alignment: the error of the outputs goes straight to every layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.direct_feedback.rule import build
from neurai_algorithms.direct_feedback.spec import DFAConfig
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, block, conv, dense, flatten, max_pool, residual
from neurai_core.losses import cross_entropy, squared_error
from neurai_core.models import mlp
from neurai_core.rule import Rule, State, problem_of

pytestmark = pytest.mark.usefixtures("quick_compile")


def dfa(loss: Any = cross_entropy) -> Rule:
    return build(DFAConfig(), loss=loss)


def problem(model: Layered, shape: tuple[int, ...]) -> tuple:
    """Parameters, a batch of 7 random examples, and a state."""
    params, model_state = model.init(jax.random.key(0), shape)
    batch = jax.random.normal(jax.random.key(1), (7, *shape)), jnp.arange(7) % 4
    return (
        params,
        batch,
        dfa().init(model, params, key=jax.random.key(2), model_state=model_state, problem=problem_of(batch)),
    )


def back_propagation(model: Layered, params: Any, batch: tuple) -> Any:
    return jax.jit(jax.grad(lambda params: cross_entropy(model(params, batch[0]), batch[1])))(params)


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13), a, b)


def test_through_the_products_of_the_transposed_weights_of_a_linear_network_it_is_back_propagation(x64: None) -> None:
    model = mlp((5, 8, 6, 4), "identity")
    params, batch, _ = problem(model, (5,))
    _, second, third = (layer["w"] for layer in params)
    state = State((), (third.T @ second.T, third.T))
    assert_close(dfa().estimate(model, params, state, batch)[0].grads, back_propagation(model, params, batch))


def test_the_error_is_taken_before_the_activation_of_the_outputs(x64: None) -> None:
    model = Layered((dense(6, "tanh"), dense(4, "sigmoid")))
    params, (x, y), state = problem(model, (5,))
    y = jax.nn.one_hot(y, 4)
    found, _ = dfa(squared_error).estimate(model, params, state, (x, y))
    h = jnp.tanh(x @ params[0]["w"] + params[0]["b"])
    a = h @ params[1]["w"] + params[1]["b"]
    e = jax.grad(lambda a: squared_error(jax.nn.sigmoid(a), y))(a)
    assert_close(found.grads[0]["w"], x.T @ ((e @ state.own[0]) * (1 - h**2)))
    assert_close(found.grads[1]["w"], h.T @ e)


def test_convolutions_and_blocks_learn_from_the_error_as_one_piece_each(x64: None) -> None:
    model = Layered(
        (conv(3, 3, activation="tanh"), max_pool(2), flatten(), residual(block(dense(27, "tanh"))), dense(4))
    )
    params, (x, y), state = problem(model, (6, 6, 1))
    assert [b if b is None else b.shape for b in state.own] == [(4, 6, 6, 3), None, None, (4, 27)]
    found, _ = dfa().estimate(model, params, state, (x, y))
    h = model(params, x)
    e = jax.grad(cross_entropy)(h, y)
    image = jax.vjp(lambda own: model.layers[0].apply(own, (), x)[0], params[0])[1](jnp.tensordot(e, state.own[0], 1))
    assert_close(found.grads[0], image[0])
    assert_close(found.grads[-1], back_propagation(model, params, (x, y))[-1])


def test_it_takes_one_product_less_for_every_hidden_layer_but_the_last_than_back_propagation() -> None:
    """Outputs are few: the products with B are small. Forward 3, parameters 3, and one with each of two B."""
    model = mlp((5, 8, 6, 4), "tanh")
    params, batch, state = problem(model, (5,))
    program = jax.jit(partial(dfa().estimate, model)).lower(params, state, batch).compile().as_text()
    assert program.count(" dot(") == 8


def test_the_forward_weights_come_to_align_with_the_feedback_weights() -> None:
    """Nøkland 2016: learning makes the feedback useful, its angle to back-propagation falls below 90 degrees."""
    data = neurai.dataset("digits")
    model = Layered((flatten(), *mlp((64, 64, 64, 10), "tanh").layers))
    params, _ = model.init(jax.random.key(0), data.input_shape)
    batch = data.x_train, data.y_train
    rule = neurai.with_alignment(dfa(), cross_entropy)
    state = rule.init(model, params, key=jax.random.key(3), problem=problem_of(batch))
    step, seen = jax.jit(rule.estimate, static_argnums=0), []
    for _ in range(60):
        found, state = step(model, params, state, batch)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, found.grads)
        seen.append([float(c) for c in found.aux["alignment"]["cosine"][:2]])
    assert min(seen[-1]) > 0.25 and min(np.subtract(seen[-1], seen[0])) > 0.1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((dense(4), flatten()), r"The last layer \(flatten\) has no parameters"),
        ((flatten(), dense(4)), "dfa sends errors back to hidden layers, and the model has none"),
    ],
)
def test_a_network_that_it_cannot_train_is_refused(layers: tuple, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        problem(Layered(layers), (5,))


def test_it_asks_for_the_shapes_of_a_batch() -> None:
    model = mlp((5, 6, 4))
    with pytest.raises(UsageError, match=r"problem=problem_of\(batch\)"):
        dfa().init(model, model.init(jax.random.key(0), (5,))[0], key=jax.random.key(0))

"""Names for models that give none: every product with a parameter, its bias included, and nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.automatic_names import named
from neurai_core.errors import ModelError, UsageError
from neurai_core.network import activity, network_of

pytestmark = pytest.mark.usefixtures("x64")
X = np.random.default_rng(0).normal(size=(4, 5))


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def shapes(model: Any, params: Any, x: Any = X) -> Any:
    return dict(network_of(named(model, "auto"), params, x).shapes)


def mlp(params: Any, x: jax.Array) -> jax.Array:
    for layer in params:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x


def layers(*sizes: int) -> Any:
    return [{"w": normal(i, a, b), "b": normal(i + 9, b)} for i, (a, b) in enumerate(pairwise(sizes))]


def test_a_product_is_named_with_its_bias_after_its_parameter() -> None:
    params = layers(5, 7, 3)
    network = network_of(named(mlp, "auto"), params, X)
    assert network.names == ("0.w", "1.w")
    v = {"0.w": normal(5, 4, 7), "1.w": normal(6, 4, 3)}
    outputs, predictions = network(params, X, v)
    np.testing.assert_allclose(predictions["0.w"][0], X @ params[0]["w"] + params[0]["b"])
    np.testing.assert_allclose(predictions["1.w"][0], jnp.tanh(v["0.w"]) @ params[1]["w"] + params[1]["b"])
    np.testing.assert_allclose(outputs, jnp.tanh(v["1.w"]))


def test_the_model_computes_and_differentiates_as_before() -> None:
    params = layers(5, 7, 3)
    model = named(mlp, "auto")

    def found(function: Any) -> Any:
        return function(params, X), jax.grad(lambda p: jnp.sum(function(p, X) ** 2))(params)

    jax.tree.map(np.testing.assert_array_equal, jax.jit(lambda: found(model))(), jax.jit(lambda: found(mlp))())


def test_products_of_activities_and_products_of_parameters_are_not_named() -> None:
    def attention(p: Any, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(x @ p["qkv"], 3, -1)
        return jax.nn.softmax(q @ k.mT) @ v @ (p["a"] @ p["b"])

    params = {"qkv": normal(0, 5, 9), "a": normal(1, 3, 2), "b": normal(2, 2, 3)}
    assert shapes(attention, params, normal(3, 2, 4, 5)) == {"qkv": (2, 4, 9), "a": (2, 4, 3)}


@pytest.mark.parametrize(
    ("model", "weight", "bias", "shape"),
    [
        (lambda p, x: jnp.einsum("oi,bi->bo", p["w"], x) - p["b"], (3, 5), (3,), (4, 3)),
        (lambda p, x: jax.vmap(lambda x: p["w"] @ x)(x) * jnp.sum(p["b"]), (3, 5), (3,), (4, 3)),
        (lambda p, x: jax.vmap(lambda x: p["w"] @ x + p["b"])(x), (3, 5), (3,), (4, 3)),
        (lambda p, x: (x @ p["w"]).reshape(4, 3, 2) + p["b"], (5, 6), (2,), (4, 3, 2)),
        (lambda p, x: (x.astype("float32") @ p["w"].astype("float32")).astype(float) + p["b"], (5, 3), (3,), (4, 3)),
        (
            lambda p, x: jax.lax.conv(x[:, None], p["w"], (1,), "VALID") + p["b"].reshape(1, 2, 1),
            (2, 1, 3),
            (2,),
            (4, 2, 3),
        ),
        (jax.jit(lambda p, x: jax.jit(jnp.dot)(x, p["w"]) + p["b"]), (5, 3), (3,), (4, 3)),
    ],
    ids=["einsum", "vmap", "vmap with bias", "reshape", "half precision", "convolution", "jit"],
)
def test_a_product_is_found_however_it_is_written(model: Any, weight: Any, bias: Any, shape: Any) -> None:
    assert shapes(model, {"w": normal(0, *weight), "b": normal(1, *bias)}) == {"w": shape}


def test_tied_weights_predict_activities_of_their_own() -> None:
    w = normal(0, 5, 5)
    assert shapes(lambda w, x: jnp.tanh(x @ w) @ w.T, w) == {"params": (4, 5), "params:2": (4, 5)}


def test_names_that_a_model_has_stay_and_are_not_given_twice() -> None:
    def model(p: Any, x: jax.Array) -> jax.Array:
        h = activity(x @ p["a"] + p["b"], "mine")
        return activity(jnp.tanh(h), "rate") @ p["c"]

    params = {"a": normal(0, 5, 3), "b": normal(1, 3), "c": normal(2, 3, 2)}
    assert shapes(model, params) == {"mine": (4, 3), "rate": (4, 3), "c": (4, 2)}


def test_a_name_that_the_model_gives_is_not_taken_again() -> None:
    def model(p: Any, x: jax.Array) -> jax.Array:
        return jax.checkpoint(lambda h: activity(jnp.tanh(h), "w"))(x @ p["w"]) @ p["v"]

    assert shapes(model, {"w": normal(0, 5, 3), "v": normal(1, 3, 3)}) == {"w:2": (4, 3), "w": (4, 3), "v": (4, 3)}


def test_products_in_scanned_and_rematerialized_layers_are_named_inside() -> None:
    def model(p: Any, x: jax.Array) -> jax.Array:
        x = jax.checkpoint(lambda w, x: jnp.sin(x @ w))(p["first"], x)
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, p["deep"])[0]

    params = {"first": normal(0, 5, 6), "deep": normal(1, 3, 6, 6)}
    network = network_of(named(model, "auto"), params, X)
    assert network.shapes == {"first": (4, 6), "deep": (3, 4, 6)}
    outputs, _ = network(params, X, {"deep": normal(2, 3, 4, 6)})
    np.testing.assert_allclose(outputs, jnp.tanh(normal(2, 3, 4, 6)[2]))
    program = str(jax.make_jaxpr(lambda p: named(model, "auto")(p, X))(params))
    assert program.count("remat2[") + program.count("checkpoint[") == 1


def test_a_product_with_a_derivative_of_its_own_is_named_whole() -> None:
    @jax.custom_vjp
    def aligned(w: jax.Array, x: jax.Array) -> jax.Array:
        return x @ w

    aligned.defvjp(lambda w, x: (x @ w, (w, x)), lambda kept, pull: (kept[1].T @ pull, pull @ jnp.ones((3, 5))))

    def model(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(aligned(p["w"], jnp.sin(x)) + p["b"])

    params = {"w": normal(0, 5, 3), "b": normal(1, 3)}
    network = network_of(named(model, "auto"), params, X)
    pulled = jax.grad(lambda x: network(params, x, {"w": jnp.ones((4, 3))})[1]["w"][0].sum())(X)
    np.testing.assert_allclose(pulled, 3 * np.cos(X))


def test_the_layers_of_a_layered_are_its_modules() -> None:
    model = neurai.models.mlp((5, 7, 3))
    params, _ = model.init(jax.random.key(0), (5,))
    network = network_of(named(model, "modules"), params, X)
    assert network.shapes == {"layers.0": (4, 7), "layers.1": (4, 3)}
    np.testing.assert_array_equal(network(params, X)[1]["layers.0"][0] >= 0, True)
    np.testing.assert_allclose(network(params, X)[0], model(params, X))


def test_layered_models_are_named_and_rules_take_named_models() -> None:
    model = neurai.models.mlp((5, 7, 3))
    params, _ = model.init(jax.random.key(0), (5,))
    assert shapes(model, params) == {"0.w": (4, 7), "1.w": (4, 3)}
    rule = neurai.algorithm("bp", loss="squared_error")
    batch = (X, np.zeros((4, 3)))
    plain, wrapped = (rule.estimate(m, params, (), batch)[0].grads for m in (model, named(model)))
    jax.tree.map(np.testing.assert_allclose, plain, wrapped)


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (lambda p, x: x @ x.T, (), r"The model has no parameters, .*\n.*neurai\.activity"),
        (lambda p, x: x * p, 2.0, r"No matrix product or convolution .*\n.*neurai\.activity"),
        (
            lambda p, x: jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x @ p, x),
            np.eye(5),
            "A product with a parameter is inside while",
        ),
    ],
)
def test_what_cannot_be_named_is_one_clear_error(model: Any, params: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        network_of(named(model, "auto"), params, X)


def test_an_unknown_way_of_naming_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"named\(model, 'all'\): expected one of 'auto', 'modules'"):
        named(mlp, "all")
    with pytest.raises(ModelError, match=r"a function, which contains no modules .*\n.*named\(model, \"auto\"\)"):
        named(mlp, "modules")

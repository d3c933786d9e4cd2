"""Networks: named values are free, and everything else is the function that it was."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, UsageError
from neurai_core.network import PredictedFrom, activity, network_of

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def weights(*sizes: int) -> list[dict[str, jax.Array]]:
    pairs = enumerate(pairwise(sizes))
    return [{"w": normal(i, a, b) / np.sqrt(a), "b": normal(i + 50, b) / 10} for i, (a, b) in pairs]


def mlp(params: Any, x: jax.Array) -> jax.Array:
    for i, layer in enumerate(params):
        x = activity(jax.nn.relu(x @ layer["w"] + layer["b"]), f"h{i + 1}")
    return x


@jax.custom_jvp
def spike(u: jax.Array) -> jax.Array:
    return jnp.where(u > 0, 1.0, 0.0)


spike.defjvp(lambda primals, tangents: (spike(*primals), tangents[0] / (1 + jnp.abs(primals[0])) ** 2))


@jax.custom_vjp
def feedback(w: jax.Array, x: jax.Array) -> jax.Array:
    """A product whose derivative is another one's."""
    return activity(x @ w, "fed")


feedback.defvjp(lambda w, x: (x @ w, (w, x)), lambda kept, pull: (kept[1].T @ pull, pull @ jnp.ones_like(kept[0]).T))


def attention(params: Any, x: jax.Array) -> jax.Array:
    """Attention with skip connections, under `jit`: (B, T, D)."""

    @jax.jit
    def block(p: Any, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(activity(x @ p["qkv"], "qkv"), 3, -1)
        mixed = jax.nn.softmax(q @ k.mT / np.sqrt(q.shape[-1])) @ v
        x = x + activity(mixed @ p["out"], "attention")
        return x + activity(jax.nn.gelu(x @ p["up"]) @ p["down"], "mlp")

    return activity(block(params, x), "y")


def attention_params() -> dict[str, jax.Array]:
    sizes = {"qkv": (6, 18), "out": (6, 6), "up": (6, 12), "down": (12, 6)}
    return {name: normal(i, *size) / 3 for i, (name, size) in enumerate(sizes.items())}


def everything(params: Any, x: jax.Array) -> dict[str, Any]:
    """Names in every kind of call and loop, custom derivatives, rematerialization by name."""
    first, second = params[:2]
    x = jax.jit(lambda x: activity(jnp.tanh(x @ first["w"]), "jitted"))(x)
    save = jax.checkpoint_policies.save_only_these_names("kept")

    def saved(x: jax.Array) -> jax.Array:
        return jnp.sin(activity(jnp.sin(activity(jnp.sin(x), "kept")), "again"))

    x = jax.checkpoint(saved, policy=save)(x)
    x = spike(feedback(second["w"], x)) + x @ second["w"]

    def turn(carry: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = activity(jax.nn.relu(carry @ w), "turned")
        return carry, carry.sum()

    x, sums = jax.lax.scan(turn, x, params[2])
    return {"x": jax.nn.relu(x), "sums": sums, "one": 1.0}


def everything_params() -> Any:
    return [*weights(5, 7, 6), normal(9, 3, 6, 6) / 2]


X = np.random.default_rng(7).normal(size=(4, 5))
SEQUENCES = np.random.default_rng(8).normal(size=(2, 4, 6))


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def total(tree: Any) -> jax.Array:
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(tree))


# ---------------------------------------------------------------------------- the function that it was


@pytest.mark.few(1)
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    ("model", "params", "x"),
    [
        (mlp, lambda: weights(5, 7, 3), X),
        (everything, everything_params, X),
        (attention, attention_params, SEQUENCES),
    ],
    ids=["mlp", "everything", "attention"],
)
def test_without_activities_outputs_and_gradients_are_the_function_s(model: Any, params: Any, x: Any) -> None:
    """To the bit where both are compiled; one by one, operations round as they would without an inner `jit`."""
    params = params()
    network = network_of(model, params, x)

    def found(function: Callable[..., Any]) -> Any:
        return function(params, x), jax.grad(lambda p, x: total(function(p, x)), (0, 1))(params, x)

    def outputs(params: Any, x: Any) -> Any:
        return network(params, x)[0]

    same(jax.jit(lambda: found(outputs))(), jax.jit(lambda: found(model))())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), found(outputs), found(model))


@pytest.mark.parametrize(("model", "params"), [(mlp, lambda: weights(5, 7, 3)), (everything, everything_params)])
def test_without_activities_the_compiled_program_costs_what_the_function_costs(model: Any, params: Any) -> None:
    params = params()
    network = network_of(model, params, X)

    def flops(function: Callable[..., Any]) -> Any:
        return jax.jit(jax.grad(function)).lower(params).compile().cost_analysis()["flops"]

    assert flops(lambda p: total(network(p, X)[0])) == flops(lambda p: total(model(p, X)))


def test_rematerialization_keeps_what_its_policy_names_and_nothing_else() -> None:
    params = everything_params()
    network = network_of(everything, params, X)

    def saved(function: Callable[..., Any]) -> list[str]:
        program = str(jax.make_jaxpr(jax.grad(lambda p: total(function(p, X))))(params))
        return re.findall(r"(?:remat2|checkpoint)\[|= sin ", program)

    assert saved(lambda p, x: network(p, x)[0]) == saved(everything)


def test_a_name_for_rematerialization_is_a_name_of_an_activity() -> None:
    from jax.ad_checkpoint import checkpoint_name

    network = network_of(lambda w, x: checkpoint_name(x @ w, "h") * 2, normal(0, 5, 3), X)
    outputs, _ = network(normal(0, 5, 3), X, {"h": jnp.ones((4, 3))})
    same(outputs, jnp.full((4, 3), 2.0))


# ---------------------------------------------------------------------------- activities put in


def test_names_come_in_order_of_computation_with_their_shapes() -> None:
    network = network_of(everything, everything_params(), X)
    assert network.names == ("jitted", "kept", "again", "fed", "turned")
    assert network.shapes == {"jitted": (4, 7), "kept": (4, 7), "again": (4, 7), "fed": (4, 6), "turned": (3, 4, 6)}


def test_an_activity_takes_the_place_of_the_value_and_its_prediction_is_what_was_computed() -> None:
    params = weights(5, 7, 3)
    h1, h2 = normal(1, 4, 7), normal(2, 4, 3)
    outputs, predictions = network_of(mlp, params, X)(params, X, {"h1": h1, "h2": h2})
    same(outputs, h2)
    same(predictions["h1"], (mlp(params[:1], X),))
    same(predictions["h2"], (mlp(params[1:], h1),))


def test_activities_reach_inside_every_kind_of_call() -> None:
    params = everything_params()
    network = network_of(everything, params, X)
    v = {name: normal(i, *shape) for i, (name, shape) in enumerate(network.shapes.items())}
    for run in (network, jax.jit(network)):
        outputs, predictions = run(params, X, v)
        np.testing.assert_allclose(predictions["kept"][0], jnp.sin(v["jitted"]), rtol=1e-12)
        np.testing.assert_allclose(predictions["again"][0], jnp.sin(v["kept"]), rtol=1e-12)
        np.testing.assert_allclose(predictions["fed"][0], jnp.sin(v["again"]) @ params[1]["w"], rtol=1e-12)
        entering = spike(v["fed"]) + jnp.sin(v["again"]) @ params[1]["w"]
        below = jnp.stack([entering, v["turned"][0], v["turned"][1]])
        np.testing.assert_allclose(predictions["turned"][0], jax.nn.relu(below @ params[2]), rtol=1e-12)
        same(outputs["sums"], v["turned"].sum((1, 2)))
        same(outputs["x"], jax.nn.relu(v["turned"][2]))


def test_the_derivative_of_a_prediction_is_that_of_the_code_behind_it() -> None:
    """A surrogate counts; a custom derivative around a name that is given does not, for it is that of the whole."""
    params = everything_params()
    network = network_of(everything, params, X)
    v = {name: normal(i, *shape) for i, (name, shape) in enumerate(network.shapes.items())}
    pulled = jax.grad(lambda fed: network(params, X, {**v, "fed": fed})[1]["turned"][0][0].sum())(v["fed"])
    below = spike(v["fed"]) + jnp.sin(v["again"]) @ params[1]["w"]
    expected = ((below @ params[2][0] > 0) @ params[2][0].T) / (1 + jnp.abs(v["fed"])) ** 2
    np.testing.assert_allclose(pulled, expected, rtol=1e-12)
    learnt = jax.grad(lambda w: network([params[0], {**params[1], "w": w}, params[2]], X, v)[1]["fed"][0].sum())
    np.testing.assert_allclose(learnt(params[1]["w"]), jnp.sin(v["again"]).T @ jnp.ones((4, 6)), rtol=1e-12)


def test_nested_loops_put_their_axes_in_front() -> None:
    def model(w: jax.Array, x: jax.Array) -> jax.Array:
        def inner(carry: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
            return activity(carry @ w, "h"), None

        return jax.lax.scan(lambda carry, w: (jax.lax.scan(inner, carry, w)[0], None), x, w, reverse=True)[0]

    w, x = normal(0, 2, 3, 5, 5), X
    network = network_of(model, w, x)
    assert network.shapes == {"h": (2, 3, 4, 5)}
    v = normal(1, 2, 3, 4, 5)
    outputs, predictions = network(w, x, {"h": v})
    same(outputs, v[0, -1])  # the outer loop goes backwards
    np.testing.assert_allclose(predictions["h"][0][0, 0], v[1, -1] @ w[0, 0])
    np.testing.assert_allclose(predictions["h"][0][1, 0], x @ w[1, 0])


def test_an_activity_of_mapped_examples_has_the_batch_axis_in_front() -> None:
    def model(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda x: jnp.tanh(activity(w @ x, "h")))(x)

    w, v = normal(0, 3, 5), normal(1, 4, 3)
    network = network_of(model, w, X)
    assert network.shapes == {"h": (4, 3)}
    outputs, predictions = network(w, X, {"h": v})
    np.testing.assert_allclose(outputs, jnp.tanh(v))
    np.testing.assert_allclose(predictions["h"][0], X @ w.T)


def test_a_name_that_occurs_again_is_one_more_prediction_of_the_same_activity() -> None:
    def model(params: Any, x: jax.Array) -> jax.Array:
        h = activity(x @ params["up"], "h")
        y = activity(h @ params["out"], "y")
        return activity(y @ params["down"], "h")

    params = {"up": normal(0, 5, 3), "out": normal(1, 3, 2), "down": normal(2, 2, 3)}
    network = network_of(model, params, X)
    v = {"h": normal(3, 4, 3), "y": normal(4, 4, 2)}
    outputs, predictions = network(params, X, v)
    assert network.names == ("h", "y")
    np.testing.assert_allclose(predictions["h"], (X @ params["up"], v["y"] @ params["down"]))
    same(outputs, v["h"])


def test_a_network_of_a_network_has_the_same_names() -> None:
    params = weights(5, 7, 3)
    inner = network_of(mlp, params, X)
    assert network_of(lambda p, x: inner(p, x)[0], params, X).names == inner.names


def test_another_batch_is_another_trace_of_the_same_network() -> None:
    params = weights(5, 7, 3)
    network = network_of(mlp, params, X)
    assert network(params, X[:3], {"h1": jnp.ones((3, 7))})[0].shape == (3, 3)
    with pytest.raises(DataError, match=r"'h1' was given with shape \(4, 7\), expected \(3, 7\)"):
        network(params, X[:3], {"h1": jnp.ones((4, 7))})
    with pytest.raises(DataError, match=r"'h1' was given as int64, expected floats"):
        network(params, X[:3], {"h1": np.ones((3, 7), int)})


def test_a_batch_is_traced_once() -> None:
    traces = []

    def model(w: jax.Array, x: jax.Array) -> jax.Array:
        traces.append(1)
        return activity(x @ w, "h")

    network = network_of(model, normal(0, 5, 3), X)
    for seed in range(3):
        network(normal(seed, 5, 3), X)
    assert len(traces) == 1


def test_activities_of_half_precision_networks_may_be_wider() -> None:
    w = normal(0, 5, 3).astype(jnp.bfloat16)
    network = network_of(mlp, [{"w": w, "b": w[0]}], X.astype(jnp.bfloat16))
    outputs, predictions = network([{"w": w, "b": w[0]}], X.astype(jnp.bfloat16), {"h1": jnp.ones((4, 3))})
    assert outputs.dtype == predictions["h1"][0].dtype == jnp.bfloat16


# ---------------------------------------------------------------------------- transformations


def test_networks_map_over_parameters() -> None:
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), weights(5, 7, 3), jax.tree.map(jnp.sin, weights(5, 7, 3)))
    network = network_of(mlp, weights(5, 7, 3), X)
    v = {"h1": normal(1, 4, 7)}
    outputs, predictions = jax.vmap(lambda p: network(p, X, v))(stack)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], stack)
        mapped = jax.tree.map(lambda leaf, i=i: leaf[i], (outputs, predictions))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), mapped, network(one, X, v))


def test_a_network_may_be_made_inside_a_transformation_that_its_model_closes_over() -> None:
    def scaled(scale: jax.Array) -> jax.Array:
        network = network_of(lambda w, x: activity(x @ w * scale, "h"), normal(0, 5, 3), X)
        return network(normal(0, 5, 3), X)[1]["h"][0].sum()

    expected = (X @ normal(0, 5, 3)).sum()
    for _ in range(2):
        np.testing.assert_allclose(jax.jit(jax.grad(scaled))(2.0), expected)


def test_networks_and_relaxation_shard_over_devices() -> None:
    script = """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        import neurai_core as neurai

        def model(params, x):
            h = neurai.activity(jnp.tanh(x @ params[0]), "h")
            return neurai.activity(jax.jit(lambda h: h @ params[1])(h), "y")

        mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
        rows, whole = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
        params = [jax.random.normal(jax.random.key(i), (3, 3)) for i in range(2)]
        x, y = (jax.random.normal(jax.random.key(i), (8, 3)) for i in (2, 3))
        network = neurai.network_of(model, params, x)

        def relaxed(params, x, y):
            return neurai.relax(network, params, x, start={"y": y}, held={"y": True}).activities

        sharded = jax.jit(relaxed, in_shardings=(whole, rows, rows), out_shardings=rows)(params, x, y)
        assert sharded["h"].sharding == rows, sharded["h"].sharding
        np.testing.assert_allclose(sharded["h"], jax.jit(relaxed)(params, x, y)["h"], rtol=1e-5, atol=1e-6)
        inner = jax.jit(lambda x: neurai.activity(2 * x, "h"), in_shardings=rows, out_shardings=rows)
        network = neurai.network_of(lambda params, x: inner(params * x), 1.0, x)
        assert network(1.0, x, {"h": jnp.ones((8, 3))})[0].sharding.spec == P("batch")
    """
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=True)


# ---------------------------------------------------------------------------- facts


def test_facts_say_which_parameters_learn_from_which_prediction() -> None:
    facts = {one.name: one for one in network_of(everything, everything_params(), X).facts(everything_params(), X)}
    assert facts["jitted"].predictions == (PredictedFrom(("0.w",), (), True),)
    assert facts["kept"].predictions == (PredictedFrom((), ("jitted",), False),)
    assert facts["fed"].predictions == (PredictedFrom(("1.w",), ("again",), False),)
    assert facts["turned"].predictions == (PredictedFrom(("1.w", "2"), ("again", "fed", "turned"), False),)
    assert facts["turned"].loops == 1


def test_facts_tell_the_predictions_of_a_repeated_name_apart() -> None:
    def model(params: Any, x: jax.Array) -> jax.Array:
        return activity(activity(x @ params["up"], "h") @ params["back"], "h")

    params = {"up": normal(0, 5, 3), "back": normal(1, 3, 3)}
    (fact,) = network_of(model, params, X).facts(params, X)
    assert fact.predictions == (PredictedFrom(("up",), (), True), PredictedFrom(("back",), ("h",), False))


# ---------------------------------------------------------------------------- models of every kind


def test_layered_models_are_networks_of_the_names_in_their_layers() -> None:
    from neurai_core.layered import Layered, dense, function

    model = Layered((dense(3), function(lambda _, x: activity(jnp.tanh(x), "h")), dense(2)))
    params, _ = model.init(jax.random.key(0), (5,))
    network = network_of(model, params, X)
    assert network.names == ("h",)
    same(network(params, X)[0], model(params, X))


# ---------------------------------------------------------------------------- bad input


W = np.ones((5, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda w, x: x @ w, r"names no value.*\n.*neurai\.activity\(h, .*neurai\.named\(model, \"auto\"\)"),
        (
            lambda w, x: jax.lax.while_loop(lambda c: c.sum() < 0, lambda c: activity(c + 1, "in_while"), x @ w),
            "'in_while' is named inside while, .*\n.*fori_loop with a fixed number of turns",
        ),
        (
            lambda w, x: jax.lax.cond(x.sum() > 0, lambda c: activity(c, "in_cond"), lambda c: c, x @ w),
            r"'in_cond' is named inside cond, .*\n.*jnp\.where",
        ),
        (
            lambda w, x: activity(x @ w, "h").sum() + activity(x, "h").sum(),
            r"'h' stands for values of shapes \(4, 3\) and \(4, 5\)",
        ),
        (lambda w, x: activity((x @ w).astype(int), "code"), "'code' is of type int64, expected floats"),
        (lambda w, x: activity(w.sum(), "s") * x, r"'s' has shape \(\) and no batch axis, for a batch of 4"),
        (lambda w, x: activity(w, "w") * x.sum(), r"'w' has shape \(5, 3\) and no batch axis, for a batch of 4"),
        (lambda w, x: activity(jnp.zeros((4, 3)), "z") + x @ w, "'z' depends on nothing: .*\n.*params\\['prior'\\]"),
        (lambda w, x: activity(np.ones((4, 3)), "c") + x @ w, "'c' depends on nothing"),
        (lambda w, x: activity(x[x > 0], "h"), "a shape or a branch in it depends on the values"),
        (lambda w, x: activity(x, "h") if x.sum() > 0 else x, "a shape or a branch in it depends on the values"),
        (lambda w, x: activity(x @ w.T, "h"), r"cannot take inputs float64\[4,5\]"),
    ],
)
def test_what_cannot_be_a_network_is_one_clear_error(model: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        network_of(model, W, X)


def test_a_wrong_name_or_tree_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"The name of an activity is 3, expected text"):
        activity(jnp.ones(2), 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"The activity 'h' is \{'a': float64\[2\]\}, expected one array"):
        activity({"a": jnp.ones(2)}, "h")  # type: ignore[arg-type]


def test_activities_that_a_network_does_not_have_are_one_clear_error() -> None:
    network = network_of(mlp, weights(5, 7, 3), X)
    with pytest.raises(DataError, match=r"name 'h3', which the network does not have.*\n.*h1, h2"):
        network(weights(5, 7, 3), X, {"h3": jnp.ones((4, 7))})
    with pytest.raises(DataError, match=r"'h1' was given with shape \(7,\), expected \(4, 7\)"):
        network(weights(5, 7, 3), X, {"h1": jnp.ones(7)})


def test_the_front_door_has_the_words() -> None:
    assert (neurai.activity, neurai.network_of) == (activity, network_of)

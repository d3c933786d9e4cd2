"""Strict predictive coding from changes on whole networks: float32 loses nothing, chains equal the rule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changes_tools import double, single
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import neurai_core as neurai
from neurai_core.changes import Around
from neurai_core.models import mlp
from neurai_core.programs import JITS, REMATS, read_program

pytestmark = pytest.mark.usefixtures("quick_compile")
ETA = 0.1


def sweep(here, loss, deltas, resting=()):
    """One step of descent on the energy."""

    def energy(deltas):
        outputs, errors = look(here, deltas, resting)
        return loss(outputs) + sum(jnp.sum(error**2) / 2 for error in errors.values())

    return jax.tree.map(lambda d, g: d - ETA * g, deltas, jax.grad(energy)(deltas))


def look(here, deltas, resting=()):
    """The outputs, and the prediction errors that are not zero."""
    change, predictions = here.changes(deltas, resting=resting)
    errors = {}
    for name, (prediction,) in predictions.items():
        if prediction is not None or deltas.get(name) is not None:
            errors[name] = (0 if prediction is None else prediction) - deltas.get(name, 0)
    return here.outputs if change is None else here.outputs + change, errors


def relaxed(here, loss, n, visits):
    """The changes of all activities after n sweeps: the light cone first."""

    def sweeps(count, deltas, resting=()):
        if count == 1:
            return sweep(here, loss, deltas, resting)
        return lax.fori_loop(0, count, lambda _, deltas: sweep(here, loss, deltas), deltas)

    deltas, done = {}, 0
    for stage in here.cone(n, visits):
        deltas = {name: deltas.get(name, jnp.zeros_like(here.at[name])) for name in stage.names}
        deltas, done = sweeps(stage.sweeps, deltas, stage.resting), done + stage.sweeps
    return sweeps(n - done, deltas)


def gradients(function, params, x, loss, n, visits=None):
    """The derivative of the energy in the parameters, at the activities that are reached."""
    here = Around(function, params, x)
    deltas = relaxed(here, loss, n, visits)
    outputs, errors = look(here, deltas)
    program = read_program(function, params, x, inline=JITS | REMATS)

    def predictions(params):
        said = {}

        def step(equation, operands):
            if equation.name is None:
                return equation(*operands)
            said[equation.name] = operands[0]
            return [here.at[equation.name] + deltas[equation.name]]

        (outputs,) = program.run(jax.tree.leaves((params, x)), step)
        return outputs, said

    errors = {name: errors.get(name, jnp.zeros_like(value)) for name, value in here.at.items()}
    return jax.vjp(predictions, params)[1]((jax.grad(loss)(outputs), errors))[0]


def worst(ours, true):
    """The largest error of a gradient relative to its norm; those that are exactly zero must be."""
    pairs = [
        [np.asarray(x, np.float64) for x in pair] for pair in zip(*map(jax.tree.leaves, (ours, true)), strict=True)
    ]
    return max(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300) for a, b in pairs)


def cross_entropy(labels):
    return lambda outputs: -jnp.sum(jax.nn.log_softmax(outputs)[jnp.arange(len(labels)), labels])


# ---------------------------------------------------------------------------- 20 layers


def named_mlp(activation):
    def function(params, x):
        for place, layer in enumerate(params[:-1]):
            x = checkpoint_name(activation(x @ layer["w"] + layer["b"]), str(place))
        return x @ params[-1]["w"] + params[-1]["b"]

    return function


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_20_layers_give_the_gradients_of_the_rule_in_both_precisions(activation, x64):
    width, batch, n = 24, 6, 30
    model = mlp([width] * 20 + [4], activation=activation)
    params = single(tuple(model.init(jax.random.key(0), (width,))[0]))
    x, y = jax.random.normal(jax.random.key(1), (batch, width), jnp.float32), jnp.arange(batch) % 4
    settings = {"eta": ETA, "n": n, "fresh": True, "stable": False, "loss_scale": "per_sample", "light_cone": False}
    with pytest.warns(UserWarning, match="of 20 layers"):
        rule = neurai.algorithm("pc", loss="cross_entropy", mode="strict", **settings)
        state = rule.init(model, double(params), key=jax.random.key(0))
        true = jax.jit(lambda p, x: rule.estimate(model, p, state, (x, y))[0].grads)(double(params), double(x))
    function = named_mlp({"tanh": jnp.tanh, "relu": jax.nn.relu}[activation])
    loss = cross_entropy(y)
    ours = jax.jit(lambda p, x: jax.tree.map(lambda g: g / batch, gradients(function, p, x, loss, n, visits=48)))
    assert worst(ours(double(params), double(x)), true) < 1e-13
    assert worst(ours(params, x), true) < 1e-5


# ---------------------------------------------------------------------------- a transformer


def transformer(params, tokens):
    """Pre-norm, each block an attention and a perceptron, both named where they join the stream."""
    stream = tokens
    for place, block in enumerate(params["blocks"]):
        stream = checkpoint_name(stream + attention(block, norm(stream)), f"attention {place}")
        hidden = jax.nn.gelu(norm(stream) @ block["up"])
        stream = checkpoint_name(stream + hidden @ block["down"], f"perceptron {place}")
    return norm(stream).mean(1) @ params["read"]


def norm(x):
    centered = x - x.mean(-1, keepdims=True)
    return centered * lax.rsqrt(jnp.mean(centered**2, -1, keepdims=True) + 1e-5)


def attention(block, x):
    q, k, v = jnp.moveaxis(jnp.einsum("btd,cdhe->cbhte", x, block["qkv"]), 0, 0)
    weights = jax.nn.softmax(jnp.einsum("bhte,bhse->bhts", q, k) / q.shape[-1] ** 0.5)
    return jnp.einsum("bhts,bhse,hed->btd", weights, v, block["out"])


def transformer_params(blocks, d=12, heads=2):
    keys = iter(jax.random.split(jax.random.key(0), 4 * blocks + 1))

    def draw(*shape, fan):
        return jax.random.normal(next(keys), shape, jnp.float32) / fan**0.5

    def one():
        return {
            "qkv": draw(3, d, heads, d // heads, fan=d),
            "out": draw(heads, d // heads, d, fan=d),
            "up": draw(d, 2 * d, fan=d),
            "down": draw(2 * d, d, fan=2 * d),
        }

    return {"blocks": [one() for _ in range(blocks)], "read": draw(d, 5, fan=d)}


# ---------------------------------------------------------------------------- a residual network


def resnet(params, images):
    """Convolutions with batch statistics held at those of the batch, relu, skips, max pooling."""
    x = checkpoint_name(jax.nn.relu(convolution(images, params["stem"])), "stem")
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    for place, (first, second) in enumerate(params["blocks"]):
        inside = checkpoint_name(jax.nn.relu(held_norm(convolution(x, first))), f"inside {place}")
        x = checkpoint_name(jax.nn.relu(x + held_norm(convolution(inside, second))), f"block {place}")
    return x.mean((1, 2)) @ params["read"]


def convolution(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def held_norm(x):
    return (x - 0.1) * lax.rsqrt(jnp.asarray(0.8, x.dtype))


def resnet_params(blocks, d=6):
    keys = iter(jax.random.split(jax.random.key(0), 2 * blocks + 2))

    def draw(*shape):
        return jax.random.normal(next(keys), shape, jnp.float32) / float(np.prod(shape[:-1])) ** 0.5

    return {
        "stem": draw(3, 3, 2, d),
        "blocks": [(draw(3, 3, d, d), draw(3, 3, d, d)) for _ in range(blocks)],
        "read": draw(d, 5),
    }


NETWORKS = {
    "transformer of twelve blocks": (transformer, lambda: transformer_params(12), (3, 5, 12), 28),
    "transformer of three blocks": (transformer, lambda: transformer_params(3), (3, 5, 12), 10),
    "resnet": (resnet, lambda: resnet_params(3), (3, 8, 8, 2), 12),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "transformer" in name else []) for name in NETWORKS]
)
def test_gradients_in_float32_are_those_in_float64(name, x64):
    function, params, shape, n = NETWORKS[name]
    params, x, y = params(), jax.random.normal(jax.random.key(1), shape, jnp.float32), jnp.arange(shape[0])
    ours = jax.jit(lambda p, x: gradients(function, p, x, cross_entropy(y), n, visits=48))
    assert worst(ours(params, x), ours(double(params), double(x))) < 1e-5

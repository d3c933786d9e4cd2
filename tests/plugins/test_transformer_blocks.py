"""Transformers of other libraries, a block to a layer, and what predictive coding makes of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.losses import cross_entropy

eqx = pytest.importorskip("equinox")
nnx = pytest.importorskip("flax.nnx")

pytestmark = [pytest.mark.usefixtures("quick_compile", "x64"), pytest.mark.filterwarnings("ignore::UserWarning")]
WIDTH, HEADS = 8, 2


class Block(nnx.Module):
    """Pre-norm attention and MLP on (B, T, D)."""

    def __init__(self, rngs):
        made = {"rngs": rngs, "param_dtype": jnp.float64}
        self.before_attention, self.before_mlp = nnx.LayerNorm(WIDTH, **made), nnx.LayerNorm(WIDTH, **made)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, **made)
        self.up, self.down = nnx.Linear(WIDTH, 16, **made), nnx.Linear(16, WIDTH, **made)

    def __call__(self, x):
        x = x + self.attention(self.before_attention(x))
        return x + self.down(nnx.gelu(self.up(self.before_mlp(x))))


class EquinoxBlock(eqx.Module):
    """The same on one example, (T, D)."""

    norms: list
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.norms = [eqx.nn.LayerNorm(WIDTH) for _ in range(2)]
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=key)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 16, 1, activation=jax.nn.gelu, key=key)

    def __call__(self, x, key=None):
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norms[1])(x))


class Tokens(eqx.Module):
    """A linear map of every token."""

    linear: eqx.nn.Linear

    def __call__(self, x, key=None):
        return jax.vmap(self.linear)(x)


def pooled(x):
    return x.mean(axis=-2)


def flax_model():
    rngs = nnx.Rngs(0)
    ends = [nnx.Linear(a, b, rngs=rngs, param_dtype=jnp.float64) for a, b in ((5, WIDTH), (WIDTH, 3))]
    return nnx.Sequential(ends[0], Block(rngs), pooled, ends[1])


def equinox_model():
    keys = jax.random.split(jax.random.key(0), 3)
    embed, head = eqx.nn.Linear(5, WIDTH, key=keys[0]), eqx.nn.Linear(WIDTH, 3, key=keys[1])
    return eqx.nn.Sequential([Tokens(embed), EquinoxBlock(keys[2]), eqx.nn.Lambda(pooled), head])


@nnx.jit
def flax_grads(model, x, y):
    return nnx.grad(lambda model: cross_entropy(model(x), y))(model)


@eqx.filter_jit
def equinox_grads(model, x, y):
    return eqx.filter_grad(lambda model: cross_entropy(jax.vmap(model)(x), y))(model)


MODELS = {"flax": (flax_model, flax_grads), "equinox": (equinox_model, equinox_grads)}
BATCH = 12


def batch():
    return np.random.default_rng(1).normal(size=(BATCH, 4, 5)), np.arange(BATCH) % 3


@pytest.mark.few(1)
@pytest.mark.parametrize("library", MODELS)
def test_exact_predictive_coding_gives_the_gradients_of_the_model_itself(library):
    make, own_grads = MODELS[library]
    model = make()
    adapted = neurai.adapt(model, needs="layered")
    params, _ = adapted.split(model)
    rule = neurai.algorithm("pc", loss="cross_entropy", mode="exact")
    grads = jax.jit(lambda params: rule.estimate(adapted.model, params, (), batch())[0].grads)(params)
    expected, _ = adapted.split(own_grads(model, *batch()))
    assert len(params) == 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), grads, expected)


def ten_steps(library, **settings):
    """What training for ten steps with a large rate reports of every relaxation."""
    model, params, _ = neurai.as_layered(MODELS[library][0]())
    rule, optimizer = neurai.algorithm("pc", loss="cross_entropy", **settings), optax.adam(1e-2)
    moments, seen = optimizer.init(params), []

    @jax.jit
    def step(params, moments):
        found, _ = rule.estimate(model, params, (), batch())
        updates, moments = optimizer.update(found.grads, moments, params)
        return optax.apply_updates(params, updates), moments, (found.aux["energy_change"], found.aux["step_scale"])

    for _ in range(10):
        params, moments, said = step(params, moments)
        seen.append(said)
    return map(jnp.stack, zip(*seen, strict=True))


@pytest.mark.parametrize("library", ["flax", pytest.param("equinox", marks=pytest.mark.slow)])
def test_the_energy_never_rises_in_ten_steps_of_training_in_error_coordinates(library):
    changes, _ = ten_steps(library, mode="error")
    assert changes.max() < 0


@pytest.mark.slow
@pytest.mark.parametrize("library", MODELS)
def test_the_energy_never_rises_where_normalization_bends_it_more_as_activities_move(library):
    changes, scales = ten_steps(library, eta=1.0, light_cone=library == "flax")
    assert changes.max() < 0
    assert scales.min() < 0.2


@pytest.mark.few(1)
@pytest.mark.parametrize("eta", [pytest.param(0.01, marks=pytest.mark.slow), "linear_schedule(0.01, 0.001, 20)"])
def test_a_normalized_network_keeps_a_small_step_to_the_bit(eta):
    model, params, _ = neurai.as_layered(flax_model())

    def grads(stable):
        rule = neurai.algorithm("pc", loss="cross_entropy", eta=eta, stable=stable)
        return jax.jit(lambda params: rule.estimate(model, params, (), batch())[0])(params)

    free, watched = grads(False), grads(True)
    assert watched.aux["step_scale"] == pytest.approx(1, rel=1e-12)
    jax.tree.map(np.testing.assert_array_equal, free.grads, watched.grads)

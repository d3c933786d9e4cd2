"""Equilibrium propagation on networks of named values: chains are their special case, theory holds for any other."""

from __future__ import annotations

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from equilibrium_oracle import distance, problem

import neurai_core as neurai
from neurai_core.errors import ModelError, SettingsError, TrainingError
from neurai_core.grads import EP
from neurai_core.rule import State

pytestmark = pytest.mark.usefixtures("quick_compile")
ESTIMATORS = (
    {"mode": "two_phase", "tol": 0.05, "n_relax": 50, "check_every": 3},
    {"mode": "random_sign", "init": "persistent"},
    {"mode": "richardson", "beta": 0.3, "trace": True},
    {"mode": "symmetric", "beta": 0.2, "linearised": True, "init": "zeros"},
    {"mode": "coupled", "beta": 0.2},
    {"mode": "continual", "beta": 0.3},
)


def named_chain(params, x):
    """The network of `equilibrium_oracle.problem`, its pre-activations named."""
    for index, layer in enumerate(params):
        x = neurai.activity(x @ layer["w"] + layer["b"], f"u{index + 1}")
        x = jax.nn.sigmoid(x) if index + 1 < len(params) else x
    return x


def skipping(params, x):
    """A skip connection and a cycle of one: what no chain has. The outputs have no parameter of their own."""
    h = neurai.activity(jnp.tanh(x @ params["in"]), "h")
    h = neurai.activity(0.5 * jnp.tanh(h @ params["side"]), "h")
    top = neurai.activity(jnp.tanh(h) @ params["up"] + x @ params["skip"], "top")
    return jnp.sin(top)


SHAPES = {"in": (6, 5), "side": (5, 5), "up": (5, 3), "skip": (6, 3)}


@pytest.fixture
def skip_params(x64):
    keys = jax.random.split(jax.random.key(4), len(SHAPES))
    return {n: jax.random.normal(k, s) / 2 for k, (n, s) in zip(keys, SHAPES.items(), strict=True)}


def estimate(model, params, batch, loss="cross_entropy", **settings):
    more = {"optimizer": optax.sgd(0.1)} if settings.get("mode") == "continual" else {}
    rule = neurai.algorithm("ep", loss=loss, **settings) if not more else built(loss, settings, more)
    state = rule.init(model, params, key=jax.random.key(0))
    return jax.jit(lambda params: rule.estimate(model, params, state, batch, key=jax.random.key(7)))(params)


def built(loss, settings, more):
    from neurai_algorithms.equilibrium_rule import build
    from neurai_algorithms.equilibrium_spec import EPConfig
    from neurai_core.losses import loss_function

    return build(EPConfig(**settings), loss=loss_function(loss), **more)


def assert_close(a, b, tolerance=1e-12):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("settings", ESTIMATORS, ids=lambda settings: settings["mode"])
def test_a_chain_of_names_is_a_chain_of_layers(settings, x64):
    model, params, batch = problem()
    (chain, state), (network, own) = (estimate(m, params, batch, **settings) for m in (model, named_chain))
    assert_close(network.grads, chain.grads)
    assert_close(own, state)
    assert chain.aux.keys() == network.aux.keys()
    for name in chain.aux:
        assert_close(network.aux[name], chain.aux[name], 1e-10)  # energies are small differences in places

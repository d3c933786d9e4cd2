"""Nudged targets: their definition for squared errors, and what they tend to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import SettingsError
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
MODEL = mlp((4, 6, 5, 3), "tanh")


def squares(outputs, targets):
    return jnp.sum((outputs - targets) ** 2) / 2


def problem():
    params, _ = MODEL.init(jax.random.key(0), (4,))
    x = jax.random.normal(jax.random.key(1), (7, 4), jnp.float64)
    return params, x, jnp.arange(7) % 3


def grads(batch, params, loss="cross_entropy", **settings):
    rule = neurai.algorithm("pc", loss=loss, **settings)
    return jax.jit(lambda params: rule.estimate(MODEL, params, (), batch)[0])(params)


def far(a, b):
    """The distance of two gradients relative to the second."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return float(jnp.sqrt(sum(jnp.sum((u - v) ** 2) for u, v in pairs) / sum(jnp.sum(v**2) for _, v in pairs)))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "nudge", "beta"), [("strict", "positive", 0.3), ("error", "negative", -0.3)])
def test_with_squared_errors_the_targets_are_part_of_the_way(mode, nudge, beta):
    params, x, y = problem()
    start = MODEL(params, x)
    there = jax.nn.one_hot(y, 3, dtype=jnp.float64)
    moved = grads((x, start + beta * (there - start)), params, squares, mode=mode)
    ours = grads((x, there), params, squares, mode=mode, nudge=nudge, beta=0.3)
    assert far(ours.grads, jax.tree.map(lambda g: g / beta, moved.grads)) < 1e-12
    assert ours.loss == pytest.approx(float(squares(start, there)))
    assert ours.aux["energy_change"] < 0


@pytest.mark.few(1)
@pytest.mark.parametrize(("nudge", "order"), [("positive", 1), ("negative", 1), ("centered", 2)])
def test_gradients_converge_with_the_nudge_at_its_order(nudge, order):
    params, x, y = problem()

    def at(beta):
        rule = neurai.algorithm("pc", loss="cross_entropy", mode="error", nudge=nudge, beta=beta, n=300, loss_scale=7.0)
        return rule.estimate(MODEL, params, (), (x, y))[0].grads

    wide, middle, narrow = (
        jax.tree.map(lambda g, i=i: g[i], jax.jit(jax.vmap(at))(jnp.array([0.2, 0.1, 0.05]))) for i in range(3)
    )
    np.testing.assert_allclose(np.log2(far(wide, middle) / far(middle, narrow)), order, atol=0.2)


@pytest.mark.parametrize("nudge", ["positive", "negative", "centered"])
def test_the_limit_is_the_response_of_the_equilibrium(nudge):
    """With one weight per layer, eps_1 = w_2 (mu - y) / (1 + w_2^2) for every nudge: the energy is quadratic."""
    model = mlp((1, 1, 1), "identity")
    params = tuple({"w": jnp.full((1, 1), w), "b": jnp.zeros(1)} for w in (0.7, 1.3))
    rule = neurai.algorithm("pc", loss=squares, nudge=nudge, beta=0.4, n=400, eta=0.2)
    found = jax.jit(lambda p: rule.estimate(model, p, (), (jnp.ones((1, 1)), jnp.full((1, 1), 2.0)))[0])(params)
    expected = 1.3 * (0.7 * 1.3 - 2.0) / (1 + 1.3**2)
    np.testing.assert_allclose(found.grads[0]["w"], [[expected]], rtol=1e-12)


def test_networks_of_names_are_nudged_alike():
    params, x, y = problem()

    def network(params, x):
        for index, layer in enumerate(params):
            x = x @ layer["w"] + layer["b"]
            x = x if index == 2 else neurai.activity(jnp.tanh(x), f"v{index + 1}")
        return x

    rule = neurai.algorithm("pc", loss="cross_entropy", nudge="centered", beta=0.5)
    named = jax.jit(lambda params: rule.estimate(network, params, (), (x, y))[0].grads)(params)
    assert far(named, grads((x, y), params, nudge="centered", beta=0.5).grads) < 1e-12


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"nudge": "positiv"}, "nudge"),
        ({"nudge": "positive", "beta": 0.0}, "beta"),
        ({"nudge": "positive", "beta": float("nan")}, "beta"),
        ({"beta": 0.5}, "beta"),
        ({"mode": "exact", "nudge": "positive"}, "nudge"),
        ({"mode": "incremental", "nudge": "centered"}, "nudge"),
    ],
)
def test_settings_that_make_no_nudge_are_refused(settings, says):
    with pytest.raises(SettingsError, match=says):
        neurai.algorithm("pc", loss="cross_entropy", **settings)

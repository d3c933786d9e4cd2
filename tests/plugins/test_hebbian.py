"""Hebbian rules converge to what their papers prove: principal components, and weights of length 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import Layered, conv, dense, flatten
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
SPREAD = np.array([2.0, 1.4, 1.0, 0.5, 0.3])  # standard deviations along the principal components


@pytest.fixture(scope="module")
def points() -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 5) off the origin, and their principal components as columns."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    x = rng.normal(size=(512, 5)) * SPREAD @ turn.T + 1.0
    _, components = np.linalg.eigh(np.cov(x.T))
    return x, components[:, ::-1]


def trained(name, x, units, lr, steps=4000, **settings):
    rule, model = neurai.algorithm(name, loss="mse", **settings), mlp((x.shape[1], units))
    params, _ = model.init(jax.random.key(0), (x.shape[1],))
    batch = jnp.asarray(x), jnp.zeros((len(x), 0))

    def step(params, _):
        grads = rule.estimate(model, params, (), batch)[0].grads
        return jax.tree.map(lambda p, g: p - lr * g, params, grads), None

    return jax.lax.scan(step, params, None, length=steps)[0][0]


def test_sangers_rule_finds_the_components_in_order_and_centers_the_outputs(points):
    x, components = points
    own = trained("hebbian", x, 3, 0.05)
    np.testing.assert_allclose(np.abs(own["w"].T @ components[:, :3]), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(x.mean(0) @ own["w"] + own["b"], 0, atol=1e-9)


def test_every_unit_of_ojas_rule_finds_the_first_component(points):
    x, components = points
    w = trained("hebbian", x, 2, 0.05, mode="oja")["w"]
    np.testing.assert_allclose(np.abs(components[:, 0] @ w), 1, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, atol=1e-9)


def test_the_subspace_rule_spans_the_first_components_and_leaves_their_order_open(points):
    x, components = points
    w = trained("hebbian", x, 3, 0.05, mode="subspace")["w"]
    first = components[:, :3]
    np.testing.assert_allclose(w @ w.T, first @ first.T, atol=1e-6)
    assert np.abs(np.abs(w.T @ first) - np.eye(3)).max() > 0.1


@pytest.mark.parametrize("mode", ["sanger", "subspace", "oja"])
def test_the_loss_is_the_error_of_the_reconstruction_of_centered_inputs(points, mode):
    x, _ = points
    rule, model = neurai.algorithm("hebbian", mode=mode), mlp((5, 3))
    params, _ = model.init(jax.random.key(0), (5,))
    w = np.asarray(params[0]["w"])
    y = (x - x.mean(0)) @ w
    made = y[:, :, None] * w.T  # by every unit, (N, K, D)
    missed = (x - x.mean(0))[:, None] - (made if mode == "oja" else made.sum(1, keepdims=True))
    found, _ = rule.estimate(model, params, (), (jnp.asarray(x), jnp.zeros((len(x), 0))))
    np.testing.assert_allclose(found.loss, np.mean(missed**2), rtol=1e-12)


def test_units_of_softhebb_reach_length_1(points):
    x, _ = points
    own = trained("softhebb", x, 4, 0.5, temperature=0.7)
    # A unit rests where E[y u] w = E[y x], so that w . w = E[y u] / E[y u].
    np.testing.assert_allclose(np.linalg.norm(own["w"], axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["hebbian", "softhebb"])
def test_another_kind_of_layer_is_named(name):
    rule, model = neurai.algorithm(name, loss="mse"), Layered((conv(2, 3), flatten(), dense(3)))
    params, _ = model.init(jax.random.key(0), (4, 4, 1))
    with pytest.raises(ModelError, match=rf"{name} trains dense layers, and layer 0 .* is of another kind"):
        rule.estimate(model, params, (), (jnp.zeros((2, 4, 4, 1)), jnp.zeros(2, int)))


def test_an_empty_batch_is_refused():
    model = mlp((3, 2))
    params, _ = model.init(jax.random.key(0), (3,))
    with pytest.raises(DataError, match="Give at least one row"):
        neurai.algorithm("hebbian", loss="mse").estimate(model, params, (), (jnp.zeros((0, 3)), jnp.zeros((0, 0))))

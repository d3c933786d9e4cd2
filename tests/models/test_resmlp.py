"""Residual networks whose scale does not follow their depth."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import ModelError
from neurai_core.layered import conv, dense, elementwise
from neurai_core.models import resmlp

N, D = 64, 20
MULTIPLIERS = {  # of the first weights, the residual ones and the last, for L layers
    "standard": lambda depth: (1, 1, 1),
    "depth": lambda depth: (1, 1 / math.sqrt(depth - 2), 1),
    "mupc": lambda depth: (1 / math.sqrt(D), 1 / math.sqrt(N * depth), 1 / N),
}
VARIANCES = {"standard": (1 / D, 2 / N, 1 / N), "depth": (1 / D, 2 / N, 1 / N), "mupc": (1, 1, 1)}


def weights(params):
    """The matrices from the first to the last."""
    found = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    return [np.asarray(w) for w in found]


@pytest.mark.few(1)
@pytest.mark.parametrize("parametrization", MULTIPLIERS)
def test_the_network_is_that_of_the_equations(parametrization, x64):
    model = resmlp(N, 6, 3, "tanh", parametrization)
    params, _ = model.init(jax.random.key(0), (D,))
    x = np.asarray(jax.random.normal(jax.random.key(1), (5, D), jnp.float64))
    first, inner, last = MULTIPLIERS[parametrization](6)
    w = weights(params)
    z = first * x @ w[0]
    for one in w[1:-1]:
        z = z + inner * np.tanh(z) @ one
    np.testing.assert_allclose(model(params, x), last * np.tanh(z) @ w[-1], rtol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("parametrization", MULTIPLIERS)
def test_weights_are_drawn_with_their_variance(parametrization):
    params, _ = resmlp(N, 30, 50, "relu", parametrization).init(jax.random.key(0), (D,))
    first, *inner, last = weights(params)
    expected = VARIANCES[parametrization]
    np.testing.assert_allclose([first.var(), np.var(inner), last.var()], expected, rtol=0.1)
    assert any(leaf.ndim == 1 for leaf in jax.tree.leaves(params)) == (parametrization != "mupc")


@pytest.mark.slow
def test_activities_grow_with_depth_only_where_nothing_holds_them():
    def size(parametrization, depth):
        model = resmlp(N, depth, 10, "relu", parametrization)
        params, _ = model.init(jax.random.key(0), (D,))
        return float(jnp.std(model(params, jax.random.normal(jax.random.key(1), (64, D)))))

    for parametrization in ("depth", "mupc"):
        assert 0.5 < size(parametrization, 64) / size(parametrization, 8) < 2
    assert size("standard", 64) > 1e3 * size("standard", 8)


def test_exact_predictive_coding_is_back_propagation_through_it(x64):
    model = resmlp(8, 5, 3, "tanh")
    params, _ = model.init(jax.random.key(0), (4,))
    batch = jax.random.normal(jax.random.key(1), (6, 4), jnp.float64), jnp.arange(6) % 3
    pc, bp = (
        neurai.algorithm(name, loss="cross_entropy", **more) for name, more in (("pc", {"mode": "exact"}), ("bp", {}))
    )
    ours, expected = (rule.estimate(model, params, (), batch)[0].grads for rule in (pc, bp))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), ours, expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((8, 2, 3), "at least 3, got 2"),
        ((8, 2.5, 3), "at least 3, got 2.5"),
        ((0, 5, 3), "needs a width of at least 1"),
        ((8, 5, 0), "needs a width of at least 1"),
        ((8, 5, 3, "relu", "mup"), "has no parametrization 'mup'. Did you mean 'mupc'?"),
        ((8, 5, 3, "rellu"), "rellu"),
    ],
)
def test_what_is_no_network_is_refused(arguments, says):
    with pytest.raises((ModelError, neurai.errors.UnknownName), match=says):
        resmlp(*arguments)


def test_layers_draw_their_weights_by_an_initializer_of_jax():
    params, _ = dense(4, initializer=jax.nn.initializers.orthogonal()).init(jax.random.key(0), (6,))
    np.testing.assert_allclose(params["w"].T @ params["w"], np.eye(4), atol=1e-5)
    params, _ = conv(5, 3, initializer=jax.nn.initializers.constant(0.5)).init(jax.random.key(0), (8, 8, 2))
    assert params["w"].shape == (3, 3, 2, 5) and (params["w"] == 0.5).all() and not params["b"].any()


@pytest.mark.parametrize(
    ("initializer", "says"),
    [
        ("orthogonal", "An initializer is a callable"),
        (jax.nn.initializers.orthogonal, "The initializer gave a function"),
        (lambda key, shape, dtype: 5.0, "The initializer gave a float"),
        (lambda key, shape, dtype: jnp.ones(3), "expected an array of shape"),
    ],
)
def test_what_is_no_initializer_is_named(initializer, says):
    with pytest.raises(ModelError, match=says):
        dense(4, initializer=initializer).init(jax.random.key(0), (6,))
    with pytest.raises(ModelError, match=says):
        conv(4, 3, initializer=initializer).init(jax.random.key(0), (8, 8, 1))


def test_weights_are_of_the_type_of_all_others():
    params, _ = dense(4, initializer=lambda key, shape, dtype: np.zeros(shape)).init(jax.random.key(0), (6,))
    assert isinstance(params["w"], jax.Array) and params["w"].dtype == jnp.float32


def test_what_is_not_elementwise_is_no_activation():
    with pytest.raises(ModelError, match="must be elementwise; this one turns"):
        elementwise(jnp.sum).apply((), (), jnp.ones((2, 3)))

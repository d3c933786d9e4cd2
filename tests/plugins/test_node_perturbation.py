"""Node perturbation: its variance as published, losses of every reduction, and what it cannot train."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.arrays import tree_norm
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, conv, dense, flatten, max_pool, residual
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
KEYS = 4000


def sizes(rule, model, params, batch):
    """|g|^2 of many estimates."""
    keys = jax.random.split(jax.random.key(3), KEYS)
    return jax.jit(jax.vmap(lambda key: tree_norm(rule.estimate(model, params, (), batch, key=key)[0].grads) ** 2))(
        keys
    )


def agrees(found, expected) -> bool:
    """Whether the mean is this number, within its standard error, which is small enough to tell."""
    return bool(abs(found.mean() - expected) < 5 * found.std() / KEYS**0.5 < 0.25 * expected)


def test_its_size_on_a_linear_layer_grows_with_the_outputs_and_not_with_the_inputs() -> None:
    """Werfel et al. 2005: learning is slower than gradient descent by the number M of outputs.

    For one example, E |g|^2 = (M + 2) |grad L|^2; weight perturbation has the number of weights in place of M.
    """
    model, (inputs, M) = mlp((20, 3), "identity"), (20, 3)
    params, _ = model.init(jax.random.key(0), (inputs,))
    batch = jax.random.normal(jax.random.key(1), (1, inputs)), jnp.ones((1, M))
    true = neurai.algorithm("bp", loss="squared_error").estimate(model, params, (), batch)[0].grads
    rule = neurai.algorithm("node-perturbation", loss="squared_error", samples=1, sigma=0.5)
    assert agrees(sizes(rule, model, params, batch) / tree_norm(true) ** 2, M + 2)


def test_its_size_on_a_deep_linear_network_grows_with_all_nodes() -> None:
    """E |g_l|^2 = |h_{l-1}|^2 (n_l |e|^2 + 2 |e_l|^2) in layer l of n_l nodes, for the errors e of all nodes."""
    model, x, y = mlp((5, 4, 3), "identity"), jax.random.normal(jax.random.key(1), (1, 5)), jnp.ones((1, 3))
    params, _ = model.init(jax.random.key(0), (5,))
    h = jnp.append(x @ params[0]["w"] + params[0]["b"], 1.0), jnp.append(x, 1.0)  # with the input of the bias
    top = model(params, x)[0] - y[0]
    errors = top, params[1]["w"] @ top
    both = sum(jnp.sum(e**2) for e in errors)
    expected = sum(jnp.sum(h_l**2) * (len(e) * both + 2 * jnp.sum(e**2)) for h_l, e in zip(h, errors, strict=True))
    rule = neurai.algorithm("node-perturbation", loss="squared_error", samples=1, sigma=1e-3)
    assert agrees(sizes(rule, model, params, (x, y)), expected)


@pytest.mark.slow
def test_a_sum_over_examples_gives_the_gradients_of_a_mean_times_their_number() -> None:
    model = mlp((4, 3, 2), "tanh")
    params, _ = model.init(jax.random.key(0), (4,))
    batch = jax.random.normal(jax.random.key(1), (6, 4)), jnp.arange(6) % 2
    mean, total = (
        neurai.algorithm("node-perturbation", loss=loss).estimate(model, params, (), batch, key=jax.random.key(2))[0]
        for loss in ("cross_entropy", "sum_cross_entropy")
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(6 * a, b, rtol=1e-8), mean.grads, total.grads)


def test_networks_with_convolutions_and_pooling_learn_along_the_gradient() -> None:
    model = Layered((conv(2, 3, activation="tanh"), max_pool(2), flatten(), dense(3)))
    params, _ = model.init(jax.random.key(0), (6, 6, 1))
    batch = jax.random.normal(jax.random.key(1), (4, 6, 6, 1)), jnp.arange(4) % 3
    rule = neurai.with_alignment(neurai.algorithm("node-perturbation", samples=300, sigma=1e-4), "cross_entropy")
    found, _ = jax.jit(lambda: rule.estimate(model, params, (), batch, key=jax.random.key(2)))()
    assert min(map(float, found.aux["alignment"]["cosine"])) > 0.6


def test_a_layer_with_parameters_and_no_place_for_noise_is_named() -> None:
    model = Layered((dense(4), residual(dense(4)), dense(3)))
    params, _ = model.init(jax.random.key(0), (5,))
    with pytest.raises(ModelError, match=r"layer 1 \(residual.*\) does not have these parts"):
        neurai.algorithm("node-perturbation").init(model, params, key=jax.random.key(1))

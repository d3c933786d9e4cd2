"""Difference target propagation: what targets are when inverses are exact, and what inverses learn."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.target_propagation.rule import differences
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, conv, dense, elementwise, flatten
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("quick_compile")


def problem(sizes: tuple[int, ...], activation: str, **settings: float) -> tuple:
    """The rule, the extended model, its parameters, and a batch."""
    plain, rule = mlp(sizes, activation), neurai.algorithm("dtp", **settings)
    own, _ = plain.init(jax.random.key(0), sizes[:1])
    model, params = rule.extended(plain, own, key=jax.random.key(1), input_shape=sizes[:1])
    batch = jax.random.normal(jax.random.key(2), (7, sizes[0])), jnp.arange(7) % sizes[-1]
    return rule, model, params, batch


def exact_inverses(params: dict) -> tuple:
    """Of layers that are linear and square."""
    inverses = []
    for own in params["forward"][1:]:
        w = jnp.linalg.inv(own["w"])
        inverses.append({"w": w, "b": -own["b"] @ w})
    return tuple(inverses)


def test_with_exact_inverses_targets_are_gauss_newton_steps(x64: None) -> None:
    """Meulemans et al. 2020: t_l - h_l = -step J_l^+ e, where J_l leads from layer l to the outputs."""
    _, model, params, (x, _) = problem((4, 4, 4, 4), "identity")
    h = [x]
    for layer, own in zip(model.plain.layers, params["forward"], strict=True):
        h.append(layer.apply(own, (), h[-1])[0])
    e, step = jax.random.normal(jax.random.key(3), h[-1].shape), 0.1
    found = differences(model.plain, exact_inverses(params), h[1:], -step * e)

    def above(first: int, one: jax.Array) -> jax.Array:
        for layer, own in zip(model.plain.layers[first:], params["forward"][first:], strict=True):
            one = layer.apply(own, (), one)[0]
        return one

    for index in (1, 2):
        jacobian = jax.jacobian(lambda one, first=index: above(first, one))(h[index][0])
        step_of_gauss_newton = -step * jnp.linalg.solve(jacobian.T @ jacobian, jacobian.T @ e[0])
        np.testing.assert_allclose(found[index - 1][0], step_of_gauss_newton, rtol=1e-8)


def test_targets_come_closer_to_the_linear_limit_as_the_step_goes_to_zero(x64: None) -> None:
    """To first order in the step, differences pass through the derivatives of the inverses: the error is O(step^2)."""
    _, model, params, (x, _) = problem((4, 6, 5, 3), "tanh")
    h = []
    for layer, own in zip(model.plain.layers, params["forward"], strict=True):
        h.append(layer.apply(own, (), h[-1] if h else x)[0])
    last = jax.random.normal(jax.random.key(3), h[-1].shape)
    linear = jax.jvp(lambda s: differences(model.plain, params["feedback"], h, s * last)[0], (0.0,), (1.0,))[1]
    gaps = [
        float(jnp.linalg.norm(differences(model.plain, params["feedback"], h, s * last)[0] / s - linear))
        for s in (1e-2, 5e-3)
    ]
    assert 1.9 < gaps[0] / gaps[1] < 2.1


def test_an_exact_inverse_has_nothing_more_to_learn(x64: None) -> None:
    rule, model, params, batch = problem((4, 4, 4), "identity")
    exact = params | {"feedback": exact_inverses(params)}
    sizes = [
        max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found.grads["feedback"]))
        for found, _ in (rule.estimate(model, one, (), batch, key=jax.random.key(4)) for one in (exact, params))
    ]
    assert sizes[0] < 1e-12 and sizes[1] > 0.1


def test_the_last_layer_learns_by_its_gradient(x64: None) -> None:
    rule, model, params, (x, y) = problem((4, 6, 5, 3), "tanh")
    found, _ = rule.estimate(model, params, (), (x, y), key=jax.random.key(4))
    exact = jax.grad(lambda own: cross_entropy(model.plain(own, x), y))(params["forward"])
    np.testing.assert_allclose(found.grads["forward"][-1]["w"], exact[-1]["w"], rtol=1e-10)
    assert not np.allclose(found.grads["forward"][0]["w"], exact[0]["w"])


def test_without_noise_or_a_key_it_draws_nothing() -> None:
    rule, model, params, batch = problem((4, 6, 3), "tanh", noise=0.0)
    one, two = (rule.estimate(model, params, (), batch, key=key)[0].grads for key in (None, jax.random.key(4)))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_it_takes_five_products_for_a_layer_with_an_inverse_beside_two_for_every_layer() -> None:
    """Forward and parameters of 3 layers; two targets, and twice forward and once backward of 2 reconstructions."""
    rule, model, params, batch = problem((4, 6, 5, 3), "tanh")
    estimate = jax.jit(rule.estimate, static_argnums=0)
    program = estimate.lower(model, params, (), batch, key=jax.random.key(0)).compile().as_text()
    assert program.count(" dot(") == 3 * 2 + 2 * 5


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((flatten(), dense(4)), "dtp sends targets to hidden layers, and the model has none"),
        ((conv(2, 3), flatten(), dense(4)), r"Layer 0 \(conv.*\) gives \(6, 6, 2\) for an example, and dtp inverts"),
    ],
)
def test_a_network_that_it_cannot_train_is_refused(layers: tuple, message: str) -> None:
    model = Layered(layers)
    params, _ = model.init(jax.random.key(0), (6, 6, 1))
    with pytest.raises(ModelError, match=message):
        neurai.algorithm("dtp").extended(model, params, key=jax.random.key(0), input_shape=(6, 6, 1))


def test_a_layer_that_draws_is_refused() -> None:
    dropout = replace(elementwise("identity"), name="dropout", stochastic=True)
    model = Layered((dense(6), dropout, dense(4)))
    params, _ = model.init(jax.random.key(0), (5,))
    with pytest.raises(ModelError, match=r"Layer 1 \(dropout\) draws at random"):
        neurai.algorithm("dtp").extended(model, params, key=jax.random.key(0), input_shape=(5,))

"""Weight perturbation: its bias and its variance as published; `neurai check` verifies that it is unbiased."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms import directions
from neurai_core.arrays import tree_norm
from neurai_core.errors import SettingsError, UsageError
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
KEYS = 4000


def problem(model, inputs=4, examples=5):
    params, _ = model.init(jax.random.key(0), (inputs,))
    x = jax.random.normal(jax.random.key(1), (examples, inputs))
    return params, (x, jax.random.normal(jax.random.key(2), model(params, x).shape))


@pytest.mark.slow
@pytest.mark.parametrize(("two_sided", "order"), [(True, 2), (False, 1)])
def test_it_tends_to_the_forward_gradient_along_the_same_directions(two_sided: bool, order: int) -> None:
    """The difference quotient of the loss has an error of O(sigma^2) with two sides, and of O(sigma) with one."""
    model = mlp((4, 3, 2), "tanh")
    params, batch = problem(model)
    key, common = jax.random.key(3), {"loss": "squared_error", "samples": 2}
    limit = neurai.algorithm("forward-gradient", **common).estimate(model, params, (), batch, key=key)[0].grads

    @jax.jit
    def gap(sigma):
        rule = neurai.algorithm("weight-perturbation", sigma=sigma, two_sided=two_sided, **common)
        found = rule.estimate(model, params, (), batch, key=key)[0].grads
        return tree_norm(jax.tree.map(jnp.subtract, found, limit))

    assert float(gap(0.01) / gap(0.005)) == pytest.approx(2**order, rel=0.1)


def test_its_size_on_a_linear_network_is_that_of_all_weights_at_once() -> None:
    """E |g|^2 = (N + 2) |grad L|^2 for one perturbation of N weights, exactly for a quadratic loss and two sides."""
    model = mlp((4, 3), "identity")
    params, batch = problem(model)
    rule = neurai.algorithm("weight-perturbation", loss="squared_error", samples=1, sigma=0.5)
    keys = jax.random.split(jax.random.key(3), KEYS)
    sizes = jax.jit(jax.vmap(lambda key: tree_norm(rule.estimate(model, params, (), batch, key=key)[0].grads) ** 2))
    true = neurai.algorithm("bp", loss="squared_error").estimate(model, params, (), batch)[0].grads
    found, N = sizes(keys) / tree_norm(true) ** 2, 15
    assert abs(found.mean() - (N + 2)) < 5 * found.std() / KEYS**0.5 < 0.25 * (N + 2)


def test_settings_out_of_bounds_and_a_call_without_a_key_are_refused() -> None:
    with pytest.raises(SettingsError, match="sigma"):
        neurai.algorithm("weight-perturbation", sigma=0.0)
    model = mlp((4, 3), "tanh")
    params, batch = problem(model)
    with pytest.raises(UsageError, match=r"'weight-perturbation'.*: estimate needs a key, and none was given"):
        neurai.algorithm("weight-perturbation", loss="squared_error").estimate(model, params, (), batch)


@pytest.mark.parametrize(("name", "distribution"), [("weight-perturbation", "normal"), ("node-perturbation", "signs")])
def test_directions_that_follow_one_another_are_those_side_by_side(
    monkeypatch: pytest.MonkeyPatch, name: str, distribution: str
) -> None:
    model = mlp((4, 3, 2), "tanh")
    params, batch = problem(model)
    rule = neurai.algorithm(name, loss="squared_error", samples=4, distribution=distribution)

    def gradients(at_once: int) -> list[jax.Array]:
        monkeypatch.setattr(directions, "AT_ONCE", at_once)
        estimate = jax.jit(lambda: rule.estimate(model, params, (), batch, key=jax.random.key(3))[0])
        return jax.tree.leaves(estimate().grads)

    for one, other in zip(gradients(2**20), gradients(1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)

"""Forward gradients have the variance of Gaussian directions; `neurai check` verifies that they are unbiased."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import neurai_core as neurai
from neurai_core.arrays import tree_norm
from neurai_core.errors import UsageError
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
KEYS, SAMPLES = 1000, 2


@pytest.mark.slow
def test_their_size_is_that_of_gaussian_directions() -> None:
    """E |g|^2 = (N + 2) |grad L|^2 for one direction in N dimensions, so (N + 1 + S) / S of it for a mean of S."""
    model = mlp((4, 3, 2), "tanh")
    params, _ = model.init(jax.random.key(0), (4,))
    batch = jax.random.normal(jax.random.key(1), (5, 4)), jnp.arange(5) % 2
    rule = neurai.algorithm("forward-gradient", samples=SAMPLES)
    keys = jax.random.split(jax.random.key(2), KEYS)
    each = jax.jit(jax.vmap(lambda key: rule.estimate(model, params, (), batch, key=key)[0].grads))(keys)
    true = neurai.algorithm("bp").estimate(model, params, (), batch)[0].grads

    N = sum(leaf.size for leaf in jax.tree.leaves(params))
    sizes = jax.vmap(tree_norm)(each) ** 2 / tree_norm(true) ** 2
    expected = (N + 1 + SAMPLES) / SAMPLES
    assert abs(sizes.mean() - expected) < 5 * sizes.std() / KEYS**0.5 < 0.2 * expected


def test_they_need_a_key() -> None:
    model = mlp((4, 3), "tanh")
    params, _ = model.init(jax.random.key(0), (4,))
    with pytest.raises(UsageError, match=r"'forward-gradient'.*: estimate needs a key, and none was given"):
        neurai.algorithm("forward-gradient").estimate(model, params, (), (jnp.ones((2, 4)), jnp.zeros(2, int)))

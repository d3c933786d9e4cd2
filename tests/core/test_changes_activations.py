"""Every activation that JAX names, as a function of one number: nothing is lost across kinks and in tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changes_tools import change_of, pulled_back

from neurai_core.layered import ACTIVATIONS

JAX = {
    "celu": jax.nn.celu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "gelu by erf": lambda x: jax.nn.gelu(x, approximate=False),
    "glu": lambda x: jax.nn.glu(jnp.stack([x, 1 - x], -1))[..., 0],
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_silu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "soft_sign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "sparse_plus": jax.nn.sparse_plus,
    "sparse_sigmoid": jax.nn.sparse_sigmoid,
    "squareplus": jax.nn.squareplus,
    "swish": jax.nn.swish,
    "tanh": jnp.tanh,
}
OURS = {f"our {name}": activation for name, activation in ACTIVATIONS.items() if activation not in JAX.values()}
ALL = {**JAX, **OURS}
KINKS = (-3.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0)
CHANGES = (1e-25, 1e-12, 1e-7, 1e-3, 0.3, 0.9, 1.5, 4.0)


def grid():
    """Points, kinks among them and numbers next to them, and changes, as float32 holds them."""
    near = [kink + step for kink in KINKS for step in (-1e-3, -1e-6, 0, 1e-6, 1e-3)]
    a = np.array([*np.linspace(-7, 7, 57) + 0.01, *near], np.float32)
    u = np.array([sign * size for size in CHANGES for sign in (1, -1)], np.float32)
    return [part.ravel() for part in np.meshgrid(a, u)]


def slope_between(activation, a, u):
    """The difference over the change where it is large, and where it is tiny the slope on the side of the change."""
    beside = a + jnp.sign(u) * 1e-13
    slope = jax.vmap(jax.grad(activation))(jnp.where(jnp.abs(u) < 1e-9, beside, a))
    return jnp.where(jnp.abs(u) < 1e-9, slope, (activation(a + u) - activation(a)) / u)


@pytest.mark.parametrize("name", ALL)
def test_the_change_of_an_activation_keeps_the_digits_of_float32(name, x64):
    activation = ALL[name]
    a, u = grid()
    ours = np.asarray(change_of(activation, [jnp.asarray(a)], [jnp.asarray(u)]), np.float64)
    a, u = (jnp.asarray(part, jnp.float64) for part in (a, u))
    true = jax.jit(lambda a, u: slope_between(activation, a, u))(a, u)
    wrong = np.abs(ours / u - true)
    # A choice that flips adds the distance of two formulas at the point, which has the digits of their values.
    flips = np.isin(name, ["sparse_plus", "sparse_sigmoid"]) & (wrong * np.abs(u) < 1.2e-7)
    assert np.max(np.where(flips, 0, wrong)) < 4e-6


@pytest.mark.parametrize("name", ALL)
def test_its_derivative_is_that_of_the_activation_where_it_has_moved(name, x64):
    a, u = (jnp.asarray(part, jnp.float64) for part in grid())
    # a + u rounds to a kink: of these, only the change knows on which side it is
    beside = np.any([np.abs(a + u - kink) < 1e-14 for kink in KINKS if kink], 0)
    ours, true = pulled_back(ALL[name], [a], [u], jnp.ones_like(a))
    np.testing.assert_allclose(ours[0][~beside], true[0][~beside], rtol=1e-12, atol=1e-12)


def test_standardized_activations_lose_nothing(x64):
    a = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    u = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32) * np.float32(1e-9)
    ours = change_of(jax.nn.standardize, [jnp.asarray(a)], [jnp.asarray(u)])
    true = jax.jvp(jax.nn.standardize, (jnp.asarray(a, float),), (jnp.asarray(u, float),))[1]
    assert np.max(np.abs(ours - true)) < 3e-6 * np.max(np.abs(true))

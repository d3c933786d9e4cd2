"""Exact differences: right to the last digits however small the change, zero for none, the activation's derivative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.changes.activations import difference, is_exact
from neurai_core.layered import ACTIVATIONS

CHANGES = (1e-30, 1e-12, 1e-6, 1e-3, 0.3, 0.9, 1.5, 4.0)


def grid():
    a = np.linspace(-4, 4, 161)
    u = np.array([sign * u for u in CHANGES for sign in (1, -1)])
    return [part.ravel() for part in np.meshgrid(a.astype(np.float32), u.astype(np.float32))]


def true_change(activation, a, u):
    """phi(a + u) - phi(a) in float64: by Taylor's formula where the plain difference would cancel."""
    slope = jax.grad(activation)
    first, second = (jax.jit(jax.vmap(f))(a) for f in (slope, jax.grad(slope)))
    return jnp.where(jnp.abs(u) < 1e-5, u * (first + u * second / 2), activation(a + u) - activation(a))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_named_activation_has_an_exact_difference(name, x64):
    activation = ACTIVATIONS[name]
    a, u = grid()
    ours = difference(activation, jnp.asarray(a))(jnp.asarray(u))
    a, u = jnp.asarray(a, jnp.float64), jnp.asarray(u, jnp.float64)
    near_kink = (jnp.abs(a) < 1e-5) | (jnp.abs(a - 1) < 1e-5)  # Taylor's formula does not hold there
    # Where a slope passes through 0, as gelu's does, precision is relative to the change of the argument.
    true = true_change(activation, a, u)
    wrong = jnp.abs(ours - true) / (jnp.abs(true) + 1e-2 * jnp.abs(u))
    assert is_exact(activation)
    assert jnp.max(jnp.where(near_kink, 0, wrong)) < 4e-5


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_unit_thrown_from_one_end_to_the_other_moves_all_the_way(name, x64):
    activation = ACTIVATIONS[name]
    a, u = (
        part.ravel().astype(np.float32) for part in np.meshgrid([-60, -30, -9, 9, 30, 60], [-200, -50, -18, 18, 50])
    )
    ours, slopes = jax.jvp(difference(activation, jnp.asarray(a)), (jnp.asarray(u),), (jnp.ones_like(u),))
    before, after = (activation(jnp.asarray(v, jnp.float64)) for v in (a, a.astype(float) + u))
    np.testing.assert_allclose(ours, after - before, rtol=2e-6, atol=2e-6)
    moved = jnp.asarray(a.astype(float) + u)
    expected = jax.jvp(activation, (moved,), (jnp.ones_like(moved),))[1]
    np.testing.assert_allclose(slopes, expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "relu", "leaky_relu"])
def test_small_changes_keep_full_relative_precision(name, x64):
    a, u = (part[np.abs(grid()[1]) < 1e-5] for part in grid())
    a, u = a[a != 0], u[a != 0]
    ours = difference(ACTIVATIONS[name], jnp.asarray(a))(jnp.asarray(u))
    true = true_change(ACTIVATIONS[name], jnp.asarray(a, jnp.float64), jnp.asarray(u, jnp.float64))
    np.testing.assert_allclose(ours, true, rtol=3e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_change_of_the_argument_is_no_change(name):
    a = jnp.linspace(-5, 5, 101)
    assert not np.any(difference(ACTIVATIONS[name], a)(jnp.zeros_like(a)))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_is_the_activations(name, x64):
    a, u = (jnp.asarray(part, jnp.float64) for part in grid())
    away = (jnp.abs(a + u) > 1e-9) & (jnp.abs(a + u - 1) > 1e-9)
    ours = jax.vjp(difference(ACTIVATIONS[name], a), u)[1](jnp.ones_like(u))[0]
    true = jax.vmap(jax.grad(ACTIVATIONS[name]))(a + u)
    np.testing.assert_allclose(ours[away], true[away], rtol=1e-8, atol=1e-9)


def test_relu_at_its_kink_has_the_derivative_of_jax():
    a, u = jnp.array([0.0, 1.0, -1.0]), jnp.array([0.0, -1.0, 1.0])
    assert jax.vjp(difference(jax.nn.relu, a), u)[1](jnp.ones(3))[0].tolist() == [0.0, 0.0, 0.0]


def test_an_unknown_activation_gets_the_plain_difference():
    assert not is_exact(jnp.sin)
    assert difference(jnp.sin, jnp.array(1.0))(jnp.array(0.5)) == jnp.sin(1.5) - jnp.sin(jnp.array(1.0))


def test_an_activation_may_bring_its_own():
    class Square:
        def __call__(self, a):
            return a * a

        def difference(self, a, u):
            return u * (2 * a + u)

    assert is_exact(Square())
    np.testing.assert_allclose(difference(Square(), jnp.array(3.0))(jnp.array(1e-20)), 6e-20, rtol=1e-6)

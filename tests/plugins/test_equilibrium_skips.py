"""Hopfield energies with max pooling and residual layers, against the energy written out, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import neurai_core as neurai
from neurai_algorithms.equilibrium.energies import energy_of
from neurai_algorithms.equilibrium.skips import chain_with_skips, skips_of
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, avg_pool, conv, dense, elementwise, flatten, max_pool, residual
from neurai_core.losses import squared_error

pytestmark = pytest.mark.usefixtures("quick_compile")

HEAD = (conv(2, 3), residual(conv(2, 3), conv(2, 3)), conv(2, 3))
MAXIMA, MEANS = (Layered((*HEAD, pool(2), flatten(), dense(3))) for pool in (max_pool, avg_pool))
CASES = pytest.mark.parametrize(("model", "fuse"), [(MAXIMA, True), (MEANS, False)], ids=["maxima", "means"])
SETTINGS = {"energy": "hopfield", "activation": "sigmoid", "dt": 0.3, "n_relax": 300, "beta": 1e-3, "mode": "symmetric"}


def rho(u):
    return 1 / (1 + jnp.exp(-u))


def convolved(p, s):
    return jax.lax.conv_general_dilated(s, p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"]


def tiles(s):
    return jnp.stack([s[:, i::2, j::2] for i in range(2) for j in range(2)])


def flat(s):
    return s.reshape(len(s), -1)


def written_out(fuse):
    """The energy summed over the batch: of maxima of the fourth drive if fused, else of means of its activities."""

    def energy(params, x, u):
        (first, (inner, outer), third, _, _, last), (a, b, c, d, e) = params, map(rho, u)
        convolution = convolved(third, c)
        fourth, below = (flat(tiles(convolution).max(0)), d) if fuse else (convolution, flat(tiles(d).mean(0)))
        top = below @ last["w"] + last["b"]
        inputs = (convolved(first, x), convolved(inner, a), convolved(outer, b) + a, fourth, top)
        squares = sum(jnp.sum(v**2) for v in (x, *u)) / 2
        return squares - sum(jnp.sum(s * i) for s, i in zip((a, b, c, d, e), inputs, strict=True))

    return energy


def problem(model=MAXIMA):
    key = jax.random.key(0)
    params, _ = model.init(key, (4, 4, 1))
    params = jax.tree.map(lambda p: jax.random.normal(jax.random.fold_in(key, p.size), p.shape) / 3, params)
    return params, (jax.random.normal(key, (2, 4, 4, 1)), jnp.eye(3)[:2])


@CASES
def test_energy_and_force_are_those_written_out(model, fuse, x64):
    params, (x, _) = problem(model)
    hopfield, energy = energy_of("hopfield"), written_out(fuse)
    chain = chain_with_skips(model, params, x, fuse=fuse, activation=rho, activation_last=True)
    start = chain.feedforward(params)
    u = tuple(v + jax.random.normal(jax.random.key(v.size), v.shape) for v in start)
    np.testing.assert_allclose(hopfield.value(chain, params, u).sum(), energy(params, x, u), rtol=1e-13)
    force = hopfield.force(chain, params, chain.drive(params), u, None)
    for ours, theirs in zip(force, jax.grad(energy, argnums=2)(params, x, u), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
    grads = hopfield.contrast(chain, params, [u], jnp.ones(1))
    for ours, theirs in zip(*map(jax.tree.leaves, (grads, jax.grad(energy)(params, x, u))), strict=True):
        np.testing.assert_allclose(ours, theirs / len(x), atol=1e-13)


@pytest.mark.few(1)
@CASES
def test_gradients_are_those_of_the_loss_at_rest(model, fuse, x64):
    """- (d/dtheta dE/du) H^-1 dC/du, by the dense Hessian of the energy written out."""
    params, batch = problem(model)
    energy, (x, y) = written_out(fuse), batch
    rule = neurai.algorithm("ep", loss="squared_error", fuse=fuse, **SETTINGS)
    ours = jax.jit(lambda params: rule.estimate(model, params, (), batch)[0].grads)(params)

    @jax.jit
    def implicit(params):
        u = tuple(map(jnp.zeros_like, chain_with_skips(model, params, x, fuse=fuse).feedforward(params)))
        slope = jax.grad(lambda u: energy(params, x, u))
        u = jax.lax.fori_loop(0, 600, lambda _, u: jax.tree.map(lambda v, g: v - 0.3 * g, u, slope(u)), u)
        at, back = ravel_pytree(u)
        hessian = jax.hessian(lambda v: energy(params, x, back(v)))(at)
        pull = jax.grad(lambda v: squared_error(back(v)[-1], y))(at)
        solved = jnp.linalg.solve(hessian, pull)
        return jax.grad(lambda p: -jnp.vdot(jax.grad(lambda v: energy(p, x, back(v)))(at), solved))(params)

    ours, theirs = (ravel_pytree(tree)[0] for tree in (ours, implicit(params)))
    assert jnp.linalg.norm(ours - theirs) < 1e-5 * jnp.linalg.norm(theirs)


def test_a_skip_pools_as_the_blocks_do_at_its_ends(x64):
    """Pooling before a residual layer and behind it, where blocks begin and end elsewhere: forward passes agree."""
    before = Layered((conv(2, 3), avg_pool(2), residual(conv(2, 3), conv(2, 3)), flatten(), dense(3)))
    behind = Layered((conv(2, 3), residual(conv(2, 3), conv(2, 3)), avg_pool(2), flatten(), dense(3)))
    for model, fuse in ((before, False), (behind, True)):
        params, (x, _) = problem(model)
        chain = chain_with_skips(model, params, x, fuse=fuse)
        np.testing.assert_allclose(chain.feedforward(params)[-1], model(params, x), rtol=1e-12)
        assert [skip[:2] for skip in skips_of(chain)] == [(0, 2)]
    nested = Layered((residual(dense(4), residual(dense(4))), dense(3)))
    params, _ = nested.init(jax.random.key(0), (4,))
    chain = chain_with_skips(nested, params, jnp.ones((1, 4)))
    np.testing.assert_allclose(chain.feedforward(params)[-1], nested(params, chain.x), rtol=1e-12)
    assert sorted(skip[:2] for skip in skips_of(chain)) == [(-1, 1), (0, 1)]


@pytest.mark.slow
def test_its_energy_falls_with_large_steps_and_weights(x64):
    params, batch = problem()
    settings = SETTINGS | {"dt": 1.0, "n_relax": 40, "trace": True, "fuse": True}
    rule = neurai.algorithm("ep", loss="squared_error", **settings)
    found, _ = jax.jit(lambda params: rule.estimate(MAXIMA, params, (), batch))(jax.tree.map(lambda p: 3 * p, params))
    energies = found.aux["trace"]["free"]["energy"]
    assert jnp.all(jnp.diff(energies) < 1e-12)
    assert found.aux["step_scale"] <= 1


ENDS = "begin and end with a layer of weights"
BEHIND = "before an activation"


@pytest.mark.parametrize(
    ("layers", "fuse", "words"),
    [
        ((conv(2, 3), residual(conv(2, 3), conv(2, 3, activation="tanh"))), False, BEHIND),
        ((conv(2, 3), residual(conv(2, 3)), max_pool(2)), True, BEHIND),
        ((conv(2, 3), residual(conv(2, 3), avg_pool(1))), False, ENDS),
        ((conv(2, 3), residual(elementwise("tanh"), conv(2, 3))), True, ENDS),
    ],
)
def test_a_residual_layer_that_is_no_skip_between_activities_is_refused(layers, fuse, words):
    model = Layered((*layers, flatten(), dense(3)))
    params, batch = problem(model)
    rule = neurai.algorithm("ep", loss="squared_error", fuse=fuse, **SETTINGS)
    with pytest.raises(ModelError, match=words):
        rule.estimate(model, params, (), batch)


def test_maxima_before_weights_are_refused():
    """They are multiplied by weights of either sign, and activities may come to rest in kinks."""
    params, batch = problem()
    with pytest.raises(ModelError, match=r"layer 3 \(max_pool\(2\)\) is not.\n.*fuse=True"):
        neurai.algorithm("ep", loss="squared_error", **SETTINGS).estimate(MAXIMA, params, (), batch)


@pytest.mark.slow
def test_holomorphic_names_the_maximum():
    params, batch = problem()
    rule = neurai.algorithm("ep", loss="squared_error", fuse=True, **SETTINGS | {"mode": "holomorphic"})
    with pytest.raises(UsageError, match=r"that of layer 3 \(max_pool\(2\)\) takes a maximum"):
        rule.estimate(MAXIMA, params, (), batch)

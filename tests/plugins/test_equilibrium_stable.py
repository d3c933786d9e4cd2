"""The step of a relaxation: the documented one where the energy allows it, a smaller one where it does not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import neurai_core as neurai
from neurai_algorithms.equilibrium.api import EP
from neurai_algorithms.equilibrium.energies import ENERGIES, Gaussian
from neurai_core.curvature import SAFE, spectral_norm
from neurai_core.energy import Energy, chain_of, half_squares
from neurai_core.layered import Layered, dense, residual
from neurai_core.models import cnn, mlp

pytestmark = pytest.mark.usefixtures("quick_compile", "x64")
HOPFIELD = {"energy": "hopfield", "mode": "symmetric", "beta": 0.5}


class Written(Energy):
    """The conditional Gaussian by its value alone."""

    default_init = "feedforward"
    settled_by_feedforward = True

    def value(self, chain, params, u):
        predictions = [block.map(params, below) for block, below in zip(chain.blocks, chain.below(u), strict=True)]
        return 2 * sum(half_squares(v - p) for v, p in zip(u, predictions, strict=True))


def network(kind, scale=1.0, activation="tanh"):
    """A small network, its weights that many times as large as they are drawn, and a batch."""
    model, shape = {
        "dense": (mlp((6, 9, 8, 3), activation), (6,)),
        "conv": (cnn((3, 4), 3, activation), (6, 6, 1)),
        "residual": (Layered([dense(8), residual(dense(8, activation)), dense(3)]), (6,)),
    }[kind]
    params, _ = model.init(jax.random.key(0), shape)
    x = jax.random.normal(jax.random.key(1), (5, *shape))
    return model, jax.tree.map(lambda leaf: scale * leaf, params), (x, jnp.arange(5) % 3)


def estimated(problem, **settings):
    model, params, batch = problem
    rule = neurai.algorithm("ep", loss="cross_entropy", **settings)
    return jax.jit(rule.estimate, static_argnums=0)(model, params, (), batch)[0]


def rises(trace):
    """Whether the energy rose at some step of a phase."""
    phases = [*trace["nudged"]["energy"], trace["free"].get("energy", np.zeros(1))]
    return any(np.any(np.diff(energy) > 1e-12 * np.abs(energy[1:])) for energy in phases)


# ---------------------------------------------------------------------------- where nothing has to change


@pytest.mark.few(1)
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("settings", [{}, HOPFIELD | {"dt": 0.2}, {"order": "even_odd", "tol": 1e-3}], ids=str)
def test_the_documented_step_is_taken_to_the_bit_where_the_energy_allows_it(settings):
    problem = network("dense")
    limited, plain = (estimated(problem, **settings, stable=stable) for stable in (True, False))
    assert limited.aux["step_scale"] == plain.aux["step_scale"] == 1
    jax.tree.map(np.testing.assert_array_equal, limited, plain)


# ---------------------------------------------------------------------------- where the documented step is too large


@pytest.mark.few(1)
@pytest.mark.filterwarnings("ignore::neurai_core.errors.RisingEnergy")
@pytest.mark.parametrize(
    ("kind", "scale", "settings"),
    [
        ("dense", 6, {}),
        ("dense", 6, {"order": "even_odd", "mode": "symmetric", "beta": 0.1}),
        ("dense", 6, {"energy": f"{__name__}:Written"}),
        ("conv", 8, {"activation": "relu"}),
        ("residual", 4, {}),
        ("dense", 6, HOPFIELD | {"dt": 0.5}),
        ("conv", 6, HOPFIELD | {"dt": 0.5}),
    ],
    ids=str,
)
def test_the_energy_falls_at_every_step_where_the_documented_step_goes_uphill(kind, scale, settings):
    problem = network(kind, scale)
    limited, plain = (estimated(problem, trace=True, **settings, stable=stable) for stable in (True, False))
    assert rises(plain.aux["trace"])
    assert not rises(limited.aux["trace"])
    assert 0 < limited.aux["step_scale"] < 1 == plain.aux["step_scale"]
    assert limited.aux["energy_change"] < 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "energy"), [("dense", "gaussian"), ("conv", "hopfield")])
def test_the_bound_is_not_below_the_curvature_of_the_energy(kind, energy):
    model, params, (x, _) = network(kind, 2)
    energy, chain = ENERGIES[energy], chain_of(model, params, x[:1])
    start, unravel = ravel_pytree(energy.feedforward(chain, params))
    hessian = jax.hessian(lambda u: jnp.sum(energy.value(chain, params, unravel(u))))(start)
    largest = float(jnp.linalg.eigvalsh(hessian)[-1])
    estimate = float(Energy.curvature(energy, chain, params))
    assert 0.9 * largest < estimate < 1.001 * float(energy.curvature(chain, params))


# ---------------------------------------------------------------------------- what is reported


def taken(w, dt, **settings):
    """step_scale and energy_change of a chain of two weights, the second one w."""
    model = mlp((1, 1, 1), "identity")
    params = tuple({"w": jnp.array([[v]]), "b": jnp.zeros(1)} for v in (1.0, w))
    rule = EP("squared_error", dt=dt, **settings).rule()
    aux = rule.estimate(model, params, (), (jnp.ones((2, 1)), jnp.ones((2, 1))))[0].aux
    return aux["step_scale"], aux["energy_change"]


SHARPEST = np.linalg.eigvalsh([[2 + 2 * 5**2, -2 * 5], [-2 * 5, 2 + 1]])[-1]  # curvature of E + C, w = 5


def test_step_scale_is_what_the_documented_step_was_multiplied_by():
    """dt may be traced, and mapped over."""
    scales, changes = jax.jit(jax.vmap(lambda dt: taken(5.0, dt)))(jnp.array([1e-3, 0.1, 0.4]))
    np.testing.assert_allclose(scales, [1, SAFE / SHARPEST / 0.1, SAFE / SHARPEST / 0.4], rtol=1e-3)
    assert changes[1] < changes[0] < 0
    np.testing.assert_allclose(changes[1], changes[2], rtol=1e-12)


def test_step_scale_of_a_schedule_is_that_of_its_largest_step():
    scale, _ = jax.jit(lambda: taken(5.0, lambda t: 0.8 - 0.01 * t, tau=2.0))()
    np.testing.assert_allclose(scale, SAFE / SHARPEST / 0.4, rtol=1e-3)


# ---------------------------------------------------------------------------- spectral norms


def test_a_spectral_norm_is_never_too_large_and_within_the_margin_of_the_step():
    for seed in range(3):
        w = np.random.default_rng(seed).normal(size=(100, 100))
        share = jax.jit(lambda w: spectral_norm(lambda x: x @ w + 1, jnp.zeros((1, 100))))(w) / np.linalg.norm(w, 2)
        assert np.sqrt(SAFE / 2) < share <= 1 + 1e-12


def test_no_weights_at_all_have_a_curvature():
    model, params, (x, _) = network("dense", 0.0)
    assert Gaussian().curvature(chain_of(model, params, x), params) == 2

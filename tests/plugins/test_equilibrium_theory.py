"""Equilibrium propagation against its theorems: implicit differentiation, back-propagation through time, bias orders.

Bars come from the theory (orders, exactness) or leave a factor of at least ten to what was measured.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equilibrium_oracle import (
    COSTS,
    DT,
    ENERGIES,
    PAIRS,
    cosine,
    distance,
    flat,
    implicit,
    lowest,
    problem,
    rest,
    unrolled,
)
from jax.flatten_util import ravel_pytree

from neurai_algorithms.equilibrium.api import EP
from neurai_algorithms.equilibrium.spec import EPMode
from neurai_core.grads import BP
from neurai_core.layered import Layered, dense


@pytest.fixture(autouse=True)
def setting(x64, quick_compile):
    """Float64, and programs that need not be fast."""


def estimate(energy, cost, beta, mode, key=None, given=None, **options):
    """The gradients of EP; phases settle unless told otherwise."""
    model, params, batch = given or problem()
    settings = {"dt": DT[energy], "n_relax": 400, "init": "zeros"} | options
    method = EP(cost, beta=beta, mode=mode, energy=energy, **({"activation": "sigmoid"} | settings))
    return method.get_grads(model, params, batch, key=key)[0]


@cache
def truth(energy, cost):
    return implicit(energy, cost, *problem()[1:])


# ---------------------------------------------------------------------------- oracles


@pytest.mark.few(1)
@pytest.mark.parametrize("pair", PAIRS)
def test_implicit_differentiation_equals_back_propagation_through_time(pair):
    _, params, batch = problem()
    assert distance(unrolled(*pair, params, batch, 1500), implicit(*pair, params, batch)) < 1e-12


@pytest.mark.few(1)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_small_nudge_gives_the_gradient_of_the_loss(pair):
    assert distance(estimate(*pair, 0.02, EPMode.RICHARDSON), truth(*pair)) < 1e-7


# ---------------------------------------------------------------------------- bias


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("pair", "mode", "n_points", "order"),
    [
        (PAIRS[0], EPMode.TWO_PHASE, 2, 1),
        (PAIRS[1], EPMode.TWO_PHASE_MATCHED, 2, 1),
        (PAIRS[1], EPMode.SYMMETRIC, 2, 2),
        *((pair, EPMode.RICHARDSON, 2, 4) for pair in PAIRS),
        (PAIRS[1], EPMode.HOLOMORPHIC, 2, 2),
        *((pair, EPMode.HOLOMORPHIC, 3, 3) for pair in PAIRS),
        (PAIRS[0], EPMode.HOLOMORPHIC, 4, 4),
        (PAIRS[1], EPMode.HOLOMORPHIC, 6, 6),
    ],
)
def test_bias_falls_with_the_order_of_the_estimator(pair, mode, n_points, order):
    exact = truth(*pair)
    coarse, fine = (distance(estimate(*pair, b, mode, n_points=n_points), exact) for b in (0.1, 0.05))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.few(1)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_a_finite_nudge_gives_the_exact_gradient_of_its_own_loss(pair, beta):
    """EP at any beta is d/dtheta [F(beta) - F(0)] / beta; central differences along one direction."""
    _, params, batch = problem()
    point, unravel = ravel_pytree(params)
    direction = jax.random.normal(jax.random.key(7), point.shape)

    def own_loss(t):
        moved = unravel(point + t * direction)
        return (lowest(*pair, moved, batch, beta) - lowest(*pair, moved, batch, 0.0)) / beta

    h = 1e-3
    slope = (8 * (own_loss(h) - own_loss(-h)) - (own_loss(2 * h) - own_loss(-2 * h))) / (12 * h)
    grads = estimate(*pair, beta, EPMode.TWO_PHASE, n_relax=400)
    np.testing.assert_allclose(flat(grads) @ direction, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_losses_of_both_signs_enclose_the_loss(pair):
    _, params, batch = problem()
    free = lowest(*pair, params, batch, 0.0)
    weaker, stronger = ((lowest(*pair, params, batch, b) - free) / b for b in (0.5, -0.5))
    loss = COSTS[pair[1]](rest(*pair, params, batch)[-1], batch[1])
    assert weaker < loss < stronger


# ---------------------------------------------------------------------------- time


@pytest.mark.few(1)
@pytest.mark.parametrize(("pair", "dt"), list(zip(PAIRS, (0.5, 0.1), strict=True)))
def test_k_nudged_steps_equal_k_steps_of_back_propagation_through_time(pair, dt):
    """For every K, so each step's increment equals the gradient one step further back (Ernoult et al. 2019)."""
    _, params, batch = problem()
    start = rest(*pair, params, batch)
    before, before_unrolled = None, None
    for steps in (1, 2):
        grads = flat(estimate(*pair, 1e-4, EPMode.SYMMETRIC, dt=dt, n_relax=1, n_nudged=steps, init=start))
        exact = flat(unrolled(*pair, params, batch, steps, dt))
        assert distance(grads, exact) < 1e-6
        if before is not None:
            assert distance(grads - before, exact - before_unrolled) < 1e-6
        before, before_unrolled = grads, exact


def test_matched_equals_two_phase_once_the_free_phase_has_settled():
    pair = ("hopfield", "squared_error")
    one, other = (estimate(*pair, 0.5, mode) for mode in (EPMode.TWO_PHASE, EPMode.TWO_PHASE_MATCHED))
    assert distance(one, other) < 1e-12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:EP. after n_relax")
def test_matching_and_symmetry_cancel_the_drift_of_an_unsettled_free_phase():
    exact = truth("hopfield", "squared_error")
    cosines = {
        mode: cosine(estimate("hopfield", "squared_error", 0.1, mode, dt=0.1, n_relax=20), exact)
        for mode in (EPMode.TWO_PHASE, EPMode.TWO_PHASE_MATCHED, EPMode.SYMMETRIC)
    }
    assert cosines[EPMode.TWO_PHASE] < 0.9
    assert min(cosines[EPMode.TWO_PHASE_MATCHED], cosines[EPMode.SYMMETRIC]) > 0.999


# ---------------------------------------------------------------------------- back-propagation as a limit


def test_gaussian_with_feedforward_start_has_no_free_gradient():
    model, params, (x, _) = problem()
    u = [x]
    for layer, p in zip(model.layers, params, strict=True):
        u.append((u[-1] if len(u) == 1 else jax.nn.sigmoid(u[-1])) @ p["w"] + p["b"])
        del layer
    assert jnp.linalg.norm(flat(jax.grad(ENERGIES["gaussian"])(params, x, tuple(u[1:])))) < 1e-14


@pytest.mark.few(1)
@pytest.mark.parametrize("cost", COSTS)
def test_gaussian_tends_to_back_propagation(cost):
    given = problem()
    grads = estimate("gaussian", cost, 1e-3, EPMode.SYMMETRIC, init=None, dt=0.2, given=given)
    assert distance(grads, BP(cost).get_grads(*given)[0]) < 1e-6


def test_gaussian_tends_to_back_propagation_through_the_models_own_activations():
    keys = jax.random.split(jax.random.key(3), 3)
    model = Layered((dense(7, "tanh"), dense(5, "softplus"), dense(3, "sigmoid")))
    params, _ = model.init(keys[0], (6,))
    batch = jax.random.normal(keys[1], (4, 6)), jax.random.normal(keys[2], (4, 3))
    grads = estimate(
        "gaussian", "mse", 1e-3, EPMode.SYMMETRIC, init=None, activation=None, given=(model, params, batch)
    )
    assert distance(grads, BP("mse").get_grads(model, params, batch)[0]) < 1e-6


@pytest.mark.slow
def test_a_loss_that_sums_tends_to_back_propagation_of_the_sum():
    given = problem()
    grads = estimate("gaussian", "sum_cross_entropy", 1e-3, EPMode.SYMMETRIC, init=None, given=given)
    assert distance(grads, BP("sum_cross_entropy").get_grads(*given)[0]) < 1e-6


# ---------------------------------------------------------------------------- symmetries between estimators


@pytest.mark.slow
def test_the_mean_over_both_signs_is_symmetric():
    pair = ("hopfield", "cross_entropy")
    plus, minus = (estimate(*pair, b, EPMode.TWO_PHASE) for b in (0.3, -0.3))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, plus, minus)
    assert distance(mean, estimate(*pair, 0.3, EPMode.SYMMETRIC)) < 1e-12


@pytest.mark.slow
def test_random_sign_is_two_phase_with_either_sign():
    pair = ("hopfield", "cross_entropy")
    signed = [estimate(*pair, b, EPMode.TWO_PHASE) for b in (0.3, -0.3)]
    seen = set()
    for seed in range(8):
        drawn = estimate(*pair, 0.3, EPMode.RANDOM_SIGN, key=jax.random.key(seed))
        gaps = [distance(drawn, one) for one in signed]
        assert min(gaps) < 1e-12
        seen.add(int(np.argmin(gaps)))
    assert seen == {0, 1}


@pytest.mark.slow
def test_two_points_on_the_circle_are_symmetric():
    pair = ("gaussian", "cross_entropy")
    two = estimate(*pair, 0.5, EPMode.HOLOMORPHIC, n_points=2)
    assert distance(two, estimate(*pair, 0.5, EPMode.SYMMETRIC)) < 1e-12


@pytest.mark.slow
def test_half_of_the_circle_stands_for_the_whole(n=3):
    """All n complex phases by hand, without conjugate symmetry."""
    _, params, batch = problem()
    total = 0
    for k in range(n):
        beta = 0.4 * np.exp(2j * np.pi * k / n)
        u = rest("gaussian", "squared_error", params, batch)
        u = _complex_rest(params, batch, u, beta)
        total += flat(_complex_gradient(params, batch[0], u)) / beta / n
    grads = estimate("gaussian", "squared_error", 0.4, EPMode.HOLOMORPHIC, n_points=n)
    assert np.abs(total.imag).max() < 1e-12
    assert distance(grads, total.real) < 1e-11


def _complex_rest(params, batch, u, beta):
    x, y = batch

    def total(u):
        return len(x) * ENERGIES["gaussian"](params, x, u) + beta * 0.5 * jnp.sum((u[-1] - y) ** 2)

    slope = jax.grad(total, holomorphic=True)
    u = tuple(v.astype(complex) for v in u)
    return jax.lax.fori_loop(0, 300, lambda _, u: jax.tree.map(lambda v, g: v - 0.2 * g, u, slope(u)), u)


def _complex_gradient(params, x, u):
    complex_params = jax.tree.map(lambda p: p.astype(complex), params)
    return jax.grad(ENERGIES["gaussian"], holomorphic=True)(complex_params, x.astype(complex), u)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "mode", "order"), [(PAIRS[0], EPMode.TWO_PHASE_MATCHED, 1), (PAIRS[1], EPMode.SYMMETRIC, 2)]
)
def test_linearized_estimates_tend_to_the_gradient_as_well(pair, mode, order):
    exact = truth(*pair)
    coarse, fine = (distance(estimate(*pair, b, mode, linearized=True), exact) for b in (0.1, 0.05))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


# ---------------------------------------------------------------------------- coupled learning


def coupled_limit(energy_name, cost_name):
    """(d^2E/dtheta du) v with v_out = -dC/do and v_hidden = -H_hh^{-1} H_ho v_out."""
    _, params, batch = problem()
    energy, (x, y) = ENERGIES[energy_name], batch
    u = rest(energy_name, cost_name, params, batch)
    hidden, unravel = ravel_pytree(u[:-1])
    v_out = -len(x) * jax.grad(COSTS[cost_name])(u[-1], y)

    def slope(hidden, out):
        return jax.grad(lambda h: energy(params, x, (*unravel(h), out)))(hidden)

    hessian = jax.jacobian(slope)(hidden, u[-1])
    pull = jax.jvp(lambda out: slope(hidden, out), (u[-1],), (v_out,))[1]
    v = (*unravel(-jnp.linalg.solve(hessian, pull)), v_out)
    return jax.jvp(lambda u: jax.grad(energy)(params, x, u), (u,), (v,))[1]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_coupled_learning_tends_to_its_own_limit_and_not_to_the_gradient(pair):
    limit = coupled_limit(*pair)
    assert distance(estimate(*pair, 1e-3, EPMode.COUPLED), limit) < 1e-6
    assert distance(limit, truth(*pair)) > 1e-3


@pytest.mark.few(1)
@pytest.mark.parametrize("pair", PAIRS)
def test_one_sided_coupled_learning_tends_to_the_same_limit_from_both_signs(pair):
    limit = coupled_limit(*pair)
    off = {b: estimate(*pair, b, EPMode.COUPLED_ONE_SIDED) for b in (0.02, 0.01, -0.01)}
    coarse, fine = distance(off[0.02], limit), distance(off[0.01], limit)
    assert np.log2(coarse / fine) == pytest.approx(1, abs=0.1)
    centered = jax.tree.map(lambda one, other: (one + other) / 2, off[0.01], off[-0.01])
    assert distance(centered, estimate(*pair, 0.01, EPMode.COUPLED)) < 1e-10


@pytest.mark.slow
def test_contrastive_learning_clamps_the_output_at_the_target():
    """With the squared error o - dC/do is the target itself."""
    _, params, (x, y) = problem()
    pair = ("hopfield", "squared_error")
    free = rest(*pair, params, (x, y))

    def hidden_rest(out):
        slopes = jax.grad(lambda u: len(x) * ENERGIES["hopfield"](params, x, (*u, out)))

        def step(_, u):
            return jax.tree.map(lambda v, g: v - 0.5 * g, u, slopes(u))

        return (*jax.lax.fori_loop(0, 300, step, free[:-1]), out)

    clamped, held = (jax.grad(ENERGIES["hopfield"])(params, x, hidden_rest(out)) for out in (y, free[-1]))
    expected = jax.tree.map(jnp.subtract, clamped, held)
    assert distance(estimate(*pair, 1.0, EPMode.CONTRASTIVE), expected) < 1e-10

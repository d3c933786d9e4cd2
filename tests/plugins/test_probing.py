"""What a relaxation needs, against the whole matrix of second derivatives and against relaxations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import DataError, UsageError
from neurai_core.grads import PC, BiPC
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
MODEL = mlp((4, 6, 5, 3), "tanh")


def problem(batch=3):
    params, _ = MODEL.init(jax.random.key(0), (4,))
    return params, (jax.random.normal(jax.random.key(1), (batch, 4), jnp.float64), jnp.arange(batch) % 3)


def test_curvatures_are_the_eigenvalues_of_the_second_derivatives():
    params, (x, y) = problem()
    found = PC("cross_entropy").probe(MODEL, params, (x, y), steps=33)

    def energy(flat):
        v1, v2 = flat[:18].reshape(3, 6), flat[18:].reshape(3, 5)
        said = [jnp.tanh(x @ params[0]["w"]), jnp.tanh(v1 @ params[1]["w"])]
        loss = -jnp.mean(jax.nn.log_softmax(v2 @ params[2]["w"])[jnp.arange(3), y])
        return loss + sum(jnp.sum((mu - v) ** 2) for mu, v in zip(said, (v1, v2), strict=True)) / 2

    v1 = jnp.tanh(x @ params[0]["w"])
    start = jnp.concatenate([v1.ravel(), jnp.tanh(v1 @ params[1]["w"]).ravel()])
    expected = np.linalg.eigvalsh(jax.hessian(energy)(start))
    np.testing.assert_allclose(found.curvatures[[0, -1]], expected[[0, -1]], rtol=1e-6)
    np.testing.assert_allclose(found.safe_step, 2 / expected[-1], rtol=1e-6)
    assert found.step == 0.1


@pytest.mark.few(1)
@pytest.mark.parametrize("eta", [0.05, 0.3])
def test_the_sweeps_are_those_that_a_relaxation_takes(eta):
    params, batch = problem()
    params = jax.tree.map(lambda leaf: leaf * 0.5, params)

    def first_error(n):
        rule = neurai.algorithm("pc", loss="sum_squared_error", eta=eta, n=n, fresh=True)
        targets = MODEL(params, batch[0]) + 1e-4  # near the feed-forward pass the energy is quadratic
        return float(jax.jit(lambda: rule.estimate(MODEL, params, (), (batch[0], targets))[0].aux["error_norms"][0])())

    targets = MODEL(params, batch[0]) + 1e-4
    found = PC("sum_squared_error", eta=eta).probe(MODEL, params, (batch[0], targets))
    half = first_error(2000) / 2
    assert first_error(found.sweeps - 1) < half <= first_error(found.sweeps)


def test_a_step_that_is_too_large_is_looked_at_as_the_rule_takes_it():
    params, batch = problem()
    found = PC("cross_entropy", eta=50.0).probe(MODEL, params, batch)
    np.testing.assert_allclose(found.step, found.safe_step / 2, rtol=1e-5)
    assert 1 < found.sweeps < 1000


def network(params, x):
    for index, layer in enumerate(params):
        x = x @ layer["w"] + layer["b"]
        x = x if index == 2 else neurai.activity(jnp.tanh(x), f"v{index + 1}")
    return x


def test_networks_of_names_are_probed_alike():
    params, batch = problem()
    ours, layers = (PC("cross_entropy").probe(model, params, batch) for model in (network, MODEL))
    np.testing.assert_allclose(ours.curvatures[-1], layers.curvatures[-1], rtol=1e-9)
    assert ours.sweeps == layers.sweeps


@pytest.mark.filterwarnings("ignore::neurai_algorithms.predictive_coding.reach.ShortRelaxation")
def test_the_sweeps_are_those_of_a_step_for_every_activity_with_momentum():
    params, (x, _) = problem(1)
    params[1]["w"], params[2]["w"] = 4 * params[1]["w"], 20 * params[2]["w"]
    targets = network(params, x) + 1e-4
    ours, layers = (PC("sum_squared_error", eta=0.1).probe(model, params, (x, targets)) for model in (network, MODEL))
    assert ours.step < 0.01 and ours.sweeps < layers.sweeps

    def first_error(n):
        rule = neurai.algorithm("pc", loss="sum_squared_error", eta=0.1, n=n, fresh=True)
        return float(jax.jit(lambda: rule.estimate(network, params, (), (x, targets))[0].aux["error_norms"][0])())

    half = first_error(2000) / 2
    assert first_error(ours.sweeps - 1) < half <= first_error(ours.sweeps)


def test_what_cannot_be_probed_is_refused():
    params, (x, _) = problem()
    with pytest.raises(DataError, match="does not pull at any activity"):
        PC("sum_squared_error").probe(MODEL, params, (x, MODEL(params, x)))
    with pytest.raises(DataError, match="expected finite numbers"):
        PC("sum_squared_error").probe(MODEL, params, (x, jnp.full((3, 3), jnp.inf)))
    with pytest.raises(UsageError, match="has no probe"):
        BiPC("mse", "mse").probe(MODEL, params, (x, x))

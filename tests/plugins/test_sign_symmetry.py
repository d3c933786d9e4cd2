"""Sign-symmetry: the weights of the way back have the signs of the forward weights, and sizes of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.sign_symmetry.rule import build, feedback_of
from neurai_algorithms.sign_symmetry.spec import SignSymmetryConfig
from neurai_algorithms.way_back import matrices_of
from neurai_core.errors import ModelError, SettingsError
from neurai_core.layered import Layered, flatten
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("magnitude", ["uniform", "fixed", "batch"])
def test_the_signs_of_the_feedback_are_those_of_the_weights(magnitude: str) -> None:
    model, config = mlp((5, 30, 20)), SignSymmetryConfig(magnitude=magnitude)
    params, _ = model.init(jax.random.key(0), (5,))
    state = build(config, loss=cross_entropy).init(model, params, key=jax.random.key(2))
    first, second = (feedback_of(config, params, state, jax.random.key(key)) for key in (3, 4))
    for w, v in zip(matrices_of(params), first, strict=True):
        np.testing.assert_array_equal(np.sign(w), np.sign(v))
        assert (np.ptp(np.abs(v)) == 0) == (magnitude == "uniform")
        np.testing.assert_allclose(np.mean(np.abs(v)), np.mean(np.abs(w)), rtol=0.15)
    assert np.array_equal(first[1], second[1]) == (magnitude != "batch")


def test_errors_travel_back_through_the_signs(x64: None) -> None:
    """By hand, in a linear network; the signs follow the weights when these have changed theirs."""
    model = mlp((5, 6, 4), "identity")
    params, _ = model.init(jax.random.key(0), (5,))
    x, y = jax.random.normal(jax.random.key(1), (7, 5)), jnp.arange(7) % 4
    rule = build(SignSymmetryConfig(scale=0.5), loss=cross_entropy)
    for own in (params, jax.tree.map(jnp.negative, params)):
        found, _ = rule.estimate(model, own, (), (x, y))
        e, w = jax.grad(cross_entropy)(model(own, x), y), own[1]["w"]
        by_hand = x.T @ e @ (0.5 * jnp.mean(jnp.abs(w)) * jnp.sign(w)).T
        np.testing.assert_allclose(found.grads[0]["w"], by_hand, rtol=1e-12, atol=1e-15)


def test_it_is_closer_to_back_propagation_than_feedback_without_the_signs() -> None:
    """Liao et al. 2016: signs matter, and magnitudes do not."""
    data = neurai.dataset("digits")
    batch = data.x_train[:256], data.y_train[:256]
    model = Layered((flatten(), *mlp((64, 64, 64, 10), "tanh").layers))
    params, _ = model.init(jax.random.key(0), data.input_shape)
    cosine = {}
    for name, settings in (("fa", {}), ("sign-symmetry", {}), ("sign-symmetry", {"magnitude": "fixed"})):
        rule = neurai.with_alignment(neurai.algorithm(name, **settings), cross_entropy)
        state = rule.init(model, params, key=jax.random.key(3))
        found, _ = jax.jit(rule.estimate, static_argnums=0)(model, params, state, batch)
        cosine[name, *settings.values()] = float(found.aux["alignment"]["cosine"][0])
    assert cosine["sign-symmetry",] > 0.5 and cosine["sign-symmetry", "fixed"] > 0.4
    assert abs(cosine["fa",]) < 0.3


def test_what_it_cannot_train_or_be_is_refused() -> None:
    model = mlp((5, 4))
    with pytest.raises(ModelError, match="sign-symmetry sends errors back to hidden layers, and the model has none"):
        neurai.algorithm("sign-symmetry").init(model, model.init(jax.random.key(0), (5,))[0], key=jax.random.key(0))
    with pytest.raises(SettingsError, match="magnitude"):
        neurai.algorithm("sign-symmetry", magnitude="none")

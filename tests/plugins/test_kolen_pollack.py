"""Kolen-Pollack: forward and feedback weights get equal updates and decay, so their difference only decays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_algorithms.way_back import matrices_of
from neurai_core.errors import ModelError
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

pytestmark = pytest.mark.usefixtures("quick_compile")
RATE, DECAY = 0.05, 0.4
OPTIMIZERS = {
    "sgd": optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE)),
    "adamw": optax.adamw(RATE, weight_decay=DECAY),
    "lion": optax.lion(RATE, weight_decay=DECAY),
}


def problem() -> tuple:
    """The rule, the extended model, its parameters, and a batch."""
    plain, rule = mlp((5, 8, 6, 4), "tanh"), neurai.algorithm("kolen-pollack")
    model, params = rule.extended(
        plain, plain.init(jax.random.key(0), (5,))[0], key=jax.random.key(1), input_shape=(5,)
    )
    return rule, model, params, (jax.random.normal(jax.random.key(2), (7, 5)), jnp.arange(7) % 4)


def gaps(params: dict) -> list[jax.Array]:
    """W - B of every layer."""
    return [w - b for w, b in zip(matrices_of(params["forward"]), params["feedback"], strict=True)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_forward_and_feedback_weights_become_equal_at_the_rate_of_the_decay(optimizer: str, x64: None) -> None:
    """Kolen and Pollack 1994: the difference shrinks by 1 - lr * weight_decay in every step, whatever is learned."""
    rule, model, params, batch = problem()
    steps = OPTIMIZERS[optimizer]

    @jax.jit
    def update(params: dict, momenta: tuple) -> tuple:
        found, _ = rule.estimate(model, params, (), batch)
        change, momenta = steps.update(found.grads, momenta, params)
        return optax.apply_updates(params, change), momenta

    before, momenta = params, steps.init(params)
    for _ in range(20):
        params, momenta = update(params, momenta)
    for start, end in zip(gaps(before), gaps(params), strict=True):
        np.testing.assert_allclose(end, (1 - RATE * DECAY) ** 20 * start, rtol=1e-9, atol=1e-13)
    assert np.abs(params["forward"][0]["w"] - before["forward"][0]["w"]).max() > 0.1


def test_with_equal_weights_it_is_back_propagation(x64: None) -> None:
    rule, model, params, batch = problem()
    params = params | {"feedback": matrices_of(params["forward"])}
    found, _ = rule.estimate(model, params, (), batch)
    exact = jax.grad(lambda own: cross_entropy(model.plain(own, batch[0]), batch[1]))(params["forward"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), found.grads["forward"], exact)


def test_it_takes_networks_of_named_values() -> None:
    def named(params: dict, x: jax.Array) -> jax.Array:
        return jnp.tanh(neurai.activity(x @ params["a"], "a")) @ params["b"]

    own = {"a": jnp.ones((5, 6)), "b": jnp.ones((6, 4))}
    rule = neurai.algorithm("kolen-pollack")
    model, params = rule.extended(named, own, key=jax.random.key(1), input_shape=(5,))
    found, _ = rule.estimate(model, params, (), (jnp.ones((2, 5)), jnp.zeros(2, int)))
    np.testing.assert_array_equal(found.grads["forward"]["a"], found.grads["feedback"][0])


def test_a_run_with_nothing_else_set_decays() -> None:
    task = prepare(choose({"rule": "kolen-pollack"}, environ={}))
    zeros = jax.tree.map(jnp.zeros_like, task.params)
    changes, _ = task.optimizer.update(zeros, task.optimizer.init(task.params), task.params)
    assert jnp.abs(changes["feedback"][0]).max() > 0


def test_a_network_without_a_hidden_layer_is_refused() -> None:
    model = mlp((5, 4))
    params, _ = model.init(jax.random.key(0), (5,))
    with pytest.raises(ModelError, match="kolen-pollack sends errors back to hidden layers, and the model has none"):
        neurai.algorithm("kolen-pollack").extended(model, params, key=jax.random.key(0), input_shape=(5,))

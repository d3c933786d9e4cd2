r"""Reward-modulated STDP without a trace per synapse: the reward is known before the pairs are counted.

$$e_{ij}^t = e^{-1/\tau_e} e_{ij}^{t-1} + \mathrm{STDP}_{ij}^t \qquad \Delta w_{ij} = (R - \bar R) \, e_{ij}^T$$

A first pass forward finds the reward R of every example, minus its loss; in a second one, the pairs that step t
completes count with the factor $(R - \bar R) \, e^{-(T - t)/\tau_e}$, which sums up to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.reward_stdp.spec import RewardSTDPConfig
from neurai_algorithms.spike_pairs import Sums, Window, check_pairs, count_pairs
from neurai_algorithms.spiking_stages import check_stages
from neurai_core.arrays import PyTree
from neurai_core.models.spiking import SpikingNetwork
from neurai_core.rule import Estimate, Rule, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: RewardSTDPConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "reward-modulated STDP".

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``; the reward is minus that of an example.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model)
        return model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)
        x, y = (jnp.repeat(jnp.asarray(part), config.trials, axis=0) for part in split_batch(batch))
        sequence = model.sequence(params, x, key=key)
        below = _spikes(model, params, sequence)
        readout = SpikingNetwork(model.stages[-1:], model.surrogate, model.readout)

        def loss_of(own: PyTree) -> Any:
            outputs = readout((own,), below)
            value, aux = score.loss(outputs, y)
            return value, (outputs, aux)

        (value, (outputs, aux)), learned = jax.value_and_grad(loss_of, has_aux=True)(params[-1])
        losses = jax.vmap(lambda one, target: score.loss(one[None], target[None])[0])(outputs, y)
        success = _expected(losses, config.trials) - losses
        grads = _modulated(config, model, params, sequence, success)
        return Estimate((*grads, learned), value, score.accuracy(outputs, y), loss_aux(aux)), state

    return Rule(init, estimate, feedforward_predict)


def _expected(losses: jax.Array, trials: int) -> jax.Array:
    """The mean over the trials of an example, or over the batch if there is one trial."""
    means: jax.Array = losses.reshape(-1, trials).mean(axis=1)
    return jnp.repeat(means, trials) if trials > 1 else jnp.mean(losses)


def _spikes(model: SpikingNetwork, params: PyTree, sequence: jax.Array) -> jax.Array:
    """What reaches the readout, (B, T, N)."""
    hidden = replace(model, stages=model.stages[:-1], encode=None, readout="all", hoist="auto")
    spikes: jax.Array = hidden(params[:-1], sequence)
    return spikes


def _modulated(
    config: RewardSTDPConfig, model: SpikingNetwork, params: PyTree, sequence: jax.Array, success: jax.Array
) -> list[PyTree]:
    """-Delta w of every stage that fires."""
    window, steps = Window(config.tau_plus, config.tau_minus), sequence.shape[1]
    left = jnp.exp((jnp.arange(steps) - (steps - 1)) / config.tau_trace)
    factors = (left[:, None] * success).astype(sequence.dtype)
    grads = []
    for own, pairs in zip(params[:-1], count_pairs(window, model, params, sequence, factors)[:-1], strict=True):
        assert pairs is not None  # it fires
        made = jax.tree.map(jnp.zeros_like, own)
        made["input"]["w"] = _change(config, pairs.input, own["input"]["w"].dtype)
        if "recurrent" in own:
            made["recurrent"] = _change(config, pairs.own, own["recurrent"].dtype)
        grads.append(made)
    return grads


def _change(config: RewardSTDPConfig, pairs: Sums, dtype: Any) -> jax.Array:
    return (config.a_minus * pairs.shrink - config.a_plus * pairs.grow).astype(dtype)


def _check(model: Any) -> None:
    check_stages("Reward-modulated STDP", model)
    check_pairs("Reward-modulated STDP", model)

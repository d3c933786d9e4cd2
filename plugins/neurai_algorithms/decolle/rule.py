"""DECOLLE: presynaptic traces times the gradient of a local loss of each stage and step, see `online_traces`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.decolle.spec import DecolleConfig
from neurai_algorithms.online_traces import StepLoss, check_online, learn_online
from neurai_algorithms.spiking_stages import check_dense
from neurai_core.arrays import PyTree, normal
from neurai_core.rule import Estimate, Rule, State, feedforward_predict, objective


def build(
    config: DecolleConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "decolle".

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``; of the outputs of each step, and of each
            local readout.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model)
        return State(model_state, _local_readouts(key, params, config.scale))

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)

        def step_loss(targets: jax.Array) -> StepLoss:
            def of_step(outputs: jax.Array, spikes: tuple[jax.Array, ...]) -> jax.Array:
                read = [own @ weights for own, weights in zip(spikes, state.own, strict=True)]
                losses: list[jax.Array] = [score.loss(one, targets)[0] for one in (*read, outputs)]
                return jnp.sum(jnp.stack(losses))

            return of_step

        return learn_online(score, model, params, batch, key, step_loss, through_stages=False), state

    return Rule(init, estimate, feedforward_predict)


def _local_readouts(key: Any, params: PyTree, scale: Any) -> tuple[jax.Array, ...]:
    """Draw fixed readouts (N, C) for every stage below the network's own."""
    _, outputs = params[-1]["input"]["w"].shape
    widths, dtype = [own["input"]["w"].shape[1] for own in params[:-1]], params[-1]["input"]["w"].dtype
    keys = jax.random.split(key, len(widths))
    return tuple(
        (scale * normal(one, (width, outputs), dtype) / jnp.sqrt(width)).astype(dtype)
        for one, width in zip(keys, widths, strict=True)
    )


def _check(model: Any) -> None:
    check_online("DECOLLE", model)
    check_dense("DECOLLE", model)

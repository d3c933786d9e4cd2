"""Online training through time: presynaptic traces times the gradient of the loss of each step, see `online_traces`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from neurai_algorithms.online_traces import StepLoss, check_online, learn_online
from neurai_algorithms.ottt.spec import OTTTConfig
from neurai_core.arrays import PyTree
from neurai_core.rule import Estimate, Rule, feedforward_predict, objective


def build(
    config: OTTTConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "ottt".

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``; of the outputs of each step.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        check_online("OTTT", model)
        return model_state

    def step_loss(targets: jax.Array) -> StepLoss:
        return lambda outputs, spikes: score.loss(outputs, targets)[0]

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        check_online("OTTT", model)
        return learn_online(score, model, params, batch, key, step_loss, through_stages=True), state

    return Rule(init, estimate, feedforward_predict)

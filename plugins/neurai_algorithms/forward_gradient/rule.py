r"""Forward gradients, Baydin et al. 2022: g = (dL/dtheta . v) v with v ~ N(0, 1), one forward pass with its slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from neurai_algorithms.directions import mean_along
from neurai_algorithms.forward_gradient.spec import ForwardGradientConfig
from neurai_core.arrays import PyTree
from neurai_core.layered import forward
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: ForwardGradientConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "forward gradients", for any callable.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: jax.Array
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)

        def loss_of(params: PyTree) -> tuple[jax.Array, Any]:
            outputs, updated = forward(model, params, x, model_state=state, key=key, train=True)
            value, aux = score.loss(outputs, y)
            return value, (score.accuracy(outputs, y), updated, aux)

        # The forward pass is the same for all directions, and is computed once.
        value, slope, (accuracy_now, updated, aux) = jax.linearize(loss_of, params, has_aux=True)
        grads = mean_along(slope, key, params, config.samples, config.distribution)
        return Estimate(grads, value, accuracy_now, loss_aux(aux)), updated

    return Rule(feedforward_init, estimate, feedforward_predict)

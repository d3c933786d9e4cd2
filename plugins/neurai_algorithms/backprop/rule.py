"""Back-propagation: grads = dL/dtheta by the chain rule, one forward and one backward pass.

Rumelhart, Hinton and Williams 1986, doi:10.1038/323533a0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurai_core.arrays import PyTree
from neurai_core.rule import (
    Estimate,
    Rule,
    feedforward_init,
    feedforward_predict,
    objective,
    true_gradient,
)
from neurai_core.specs import Config


def build(
    config: Config,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "back-propagation".

    Args:
        config: has no settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        return true_gradient(score, model, params, state, batch, key=key)

    return Rule(feedforward_init, estimate, feedforward_predict)

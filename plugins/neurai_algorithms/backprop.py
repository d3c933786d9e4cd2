"""Back-propagation: grads = dL/dtheta by the chain rule, one forward and one backward pass.

Rumelhart, Hinton and Williams 1986, doi:10.1038/323533a0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from neurai_core.arrays import PyTree
from neurai_core.grads.base import GradeBase
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


class BP(GradeBase):
    """Back-propagation: the gradients of a feed-forward network by the chain rule.

    Args:
        loss_f: loss by name or callable ``(outputs, targets) -> scalar``.
        acc_f: accuracy by name or callable ``(outputs, targets) -> scalar``; None reports -1.
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is handed back.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 3))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> batch = jnp.ones((8, 4)), jnp.zeros(8, int)
        >>> grads, loss, accuracy = BP("cross_entropy").get_grads(model, params, batch)
        >>> grads[0]["w"].shape, float(accuracy)
        ((4, 3), -1.0)
    """

    algorithm: ClassVar[str] = "bp"

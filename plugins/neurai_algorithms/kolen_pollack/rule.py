"""The rule of Kolen and Pollack: feedback weights B get the updates of the forward weights W, and both decay.

    dB_l = dW_l        W_l - B_l after t steps = (1 - eta lambda)^t (W_l - B_l)

Kolen and Pollack 1994, Akrout et al. 2019, arXiv:1904.05391. The update needs no weight transport: it is the product
of what both ends of a connection have, the activity below and the error above. B is among the parameters that the
optimizer updates, so learning rate and decay are its own: any optimizer does whose steps depend on the gradients entry
by entry, and whose decay is decoupled from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from neurai_algorithms.extending import Extended, ExtendedRule
from neurai_algorithms.kolen_pollack.spec import KolenPollackConfig
from neurai_algorithms.way_back import check_model, drawn_like, estimate_through, matrices_of, with_matrices
from neurai_core.arrays import PyTree, Shape
from neurai_core.rule import Estimate, feedforward_init, feedforward_predict, objective


def build(
    config: KolenPollackConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> ExtendedRule:
    """The rule "Kolen-Pollack", on ``{"forward": the model's parameters, "feedback": one for each of its matrices}``.

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def extended(model: Any, params: PyTree, *, key: jax.Array, input_shape: Shape) -> tuple[Extended, PyTree]:
        check_model("kolen-pollack", model, params)
        return Extended(model), {"forward": params, "feedback": drawn_like(params, config.scale, key)}

    def estimate(
        model: Extended, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        own = params["forward"]
        back = with_matrices(own, params["feedback"])
        found, state = estimate_through(score, model.plain, own, back, state, batch, key)
        return found._replace(grads={"forward": found.grads, "feedback": matrices_of(found.grads)}), state

    return ExtendedRule(feedforward_init, estimate, feedforward_predict, extended)

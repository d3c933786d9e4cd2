"""Feedback alignment: back-propagation in which fixed random matrices B stand for the transposed weights.

Lillicrap, Cownden, Tweed and Akerman 2016, doi:10.1038/ncomms13276.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from neurai_algorithms.feedback_alignment.spec import FAConfig
from neurai_algorithms.way_back import check_model, drawn_like, estimate_through, with_matrices
from neurai_core.arrays import PyTree
from neurai_core.rule import Estimate, Rule, State, feedforward_predict, objective


def build(
    config: FAConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "feedback alignment"; its state holds B, one matrix for each of the parameters.

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: jax.Array, model_state: PyTree = ()) -> State:
        check_model("fa", model, params)
        return State(model_state, drawn_like(params, config.scale, key))

    def estimate(model: Any, params: PyTree, state: State, batch: PyTree, *, key: Any = None) -> tuple[Estimate, State]:
        back = with_matrices(params, state.own)
        found, model_state = estimate_through(score, model, params, back, state.model_state, batch, key)
        return found, State(model_state, state.own)

    return Rule(init, estimate, feedforward_predict)

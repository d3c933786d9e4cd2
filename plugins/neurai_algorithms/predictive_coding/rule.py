r"""Predictive coding: activities of layers are free values that relax, and each layer learns from its own error.

    eps_l = f_l(v_{l-1}) - v_l        prediction minus activity, with the sign of the back-propagated error
    grad(theta_l) = (df_l/dtheta_l)^T eps_l

The modes differ in how the errors are found: `strict`, `fixed_prediction` (which holds ``EXACT`` too)
and `incremental`. The loss reported is always that of the feed-forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.predictive_coding.fixed_prediction import exact, fixed_prediction
from neurai_algorithms.predictive_coding.fusing import on_fused_layers
from neurai_algorithms.predictive_coding.incremental import incremental, optimizer_of
from neurai_algorithms.predictive_coding.network_error import error_coordinates
from neurai_algorithms.predictive_coding.network_fixed import exact_on_network, fixed_on_network
from neurai_algorithms.predictive_coding.network_incremental import incremental_on_network
from neurai_algorithms.predictive_coding.network_strict import strict_on_network
from neurai_algorithms.predictive_coding.network_task import NetworkTask, as_network, network_task
from neurai_algorithms.predictive_coding.nudging import nudged
from neurai_algorithms.predictive_coding.reach import warn_if_short, warn_if_unreached
from neurai_algorithms.predictive_coding.spec import PCConfig, PCMode
from neurai_algorithms.predictive_coding.strict import strict
from neurai_algorithms.predictive_coding.task import Solution, Task, layered_task
from neurai_core.adapting import adapt
from neurai_core.arrays import PyTree, tree_norm
from neurai_core.errors import UsageError
from neurai_core.layered import Layered
from neurai_core.optax_texts import made
from neurai_core.rule import (
    Estimate,
    Objective,
    Rule,
    State,
    feedforward_predict,
    loss_aux,
    model_state_of,
    objective,
    split_batch,
)


def build(
    config: PCConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "predictive coding".

    Args:
        config: settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)
    config = with_schedule(config)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        seen = seen_model(model)
        if isinstance(seen, Layered):
            warn_if_short(config, len(seen))
        if config.mode != PCMode.INCREMENTAL:
            return model_state
        moved = tuple(params) if isinstance(seen, Layered) else params
        return State(model_state, optimizer_of(config).init(moved))

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        seen = seen_model(model)
        if not isinstance(seen, Layered) or (config.mode == PCMode.ERROR and len(seen) > 1):
            return _on_network(config, score, seen, params, state, batch, key)
        task = layered_task(config, score, seen, params, model_state_of(state), split_batch(batch), key)
        if config.mode != PCMode.INCREMENTAL:
            found = nudged(task, _SOLVERS[config.mode])
            return _report(task, found, params), _updated(state, found)
        found, carry = incremental(task, _carried(state))
        return _report(task, found, params), State(_updated(model_state_of(state), found), carry)

    rule = Rule(init, estimate, feedforward_predict)
    return on_fused_layers(rule) if config.fuse else rule


_SOLVERS: dict[str, Callable[[Task], Solution]] = {
    PCMode.STRICT: strict,
    PCMode.ERROR: strict,  # a single layer has no activities to relax
    PCMode.FIXED_PRED: fixed_prediction,
    PCMode.EXACT: exact,
}


# ---------------------------------------------------------------------------- the model


def with_schedule(config: PCConfig) -> PCConfig:
    """Settings with the schedule made from its string."""
    return config.model_copy(update={"eta": made(config.eta)}) if isinstance(config.eta, str) else config


def seen_model(model: Any) -> Any:
    """The model in the form this rule needs: layers if it has them, else a callable with named values."""
    return adapt(model, needs="network").model


def _on_network(
    config: PCConfig, score: Objective, model: Any, params: PyTree, state: PyTree, batch: PyTree, key: Any
) -> tuple[Estimate, PyTree]:
    """The estimate on a network of named values."""
    network = as_network(model)
    task = network_task(config, score, network, params, model_state_of(state), split_batch(batch), key)
    warn_if_unreached(task)
    if config.mode != PCMode.INCREMENTAL:
        found = nudged(task, _ON_NETWORKS[config.mode])
        return _report(task, found, params), found.states
    found, carry = incremental_on_network(task, _carried(state))
    return _report(task, found, params), State(found.states, carry)


_ON_NETWORKS: dict[str, Callable[[NetworkTask], Solution]] = {
    PCMode.STRICT: strict_on_network,
    PCMode.ERROR: error_coordinates,
    PCMode.FIXED_PRED: fixed_on_network,
    PCMode.EXACT: exact_on_network,
}


def _carried(state: PyTree) -> PyTree:
    if not isinstance(state, State):
        raise UsageError(
            "Incremental predictive coding carries the state of its optimizer, and none was given.",
            hint="Start with state = rule.init(model, params, key=key) and pass on what estimate returns.",
        )
    return state.own


# ---------------------------------------------------------------------------- after a batch


def _updated(state: PyTree, found: Solution) -> PyTree:
    """The model's collections after one feed-forward pass, ``()`` when there are none."""
    return state if state == () else found.states


def _report(task: Task | NetworkTask, found: Solution, params: PyTree) -> Estimate:
    loss, extra = task.score.loss(found.outputs, task.y)
    aux = {
        **loss_aux(extra),
        "steps": jnp.asarray(found.steps, jnp.int32),
        "error_norms": jnp.stack([tree_norm(e) for e in found.errors]),
    }
    described = {name: getattr(found, name) for name in ("energy", "energy_change", "step_scale")}
    aux |= {name: value for name, value in described.items() if value is not None}
    if found.trace is not None:
        aux |= {"energy_trace": found.trace["energy"], "trace": {"inference": found.trace}}
    if task.config.keep_activities:
        aux |= {"activities": found.activities, "errors": found.errors}
    grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found.grads))
    return Estimate(grads, loss, task.score.accuracy(found.outputs, task.y), aux)

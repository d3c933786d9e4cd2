r"""Bidirectional predictive coding: every layer predicts the one above and the one below.

One network then classifies (an upward sweep), generates (a downward sweep from a label), reconstructs its input from
any layer, and fills in missing parts of either end.

A batch becomes a `task` for two directions of `layers`; `relaxation` moves the activities down the energy and learns.
Queries to the network are in `inference`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional.inference import Inferred, generated, inferred, reconstructed
from neurai_algorithms.bidirectional.layers import checked, extended, two_way
from neurai_algorithms.bidirectional.relaxation import SolutionBoth, relaxed_both
from neurai_algorithms.bidirectional.spec import BiPCConfig
from neurai_algorithms.bidirectional.task import BothWays, learning_task, query_task
from neurai_algorithms.predictive_coding.task import Solution
from neurai_core.arrays import PyTree, Shape, tree_norm
from neurai_core.layered import Layered
from neurai_core.losses import loss_function
from neurai_core.rule import Estimate, loss_aux, model_state_of, objective

INFER_SWEEPS = 50  # times n, the steps of `infer` when none are given: a missing end moves at the pace of alpha_b


class BiPCRule(NamedTuple):
    """A `Rule` that also generates, reconstructs and fills in.

    Attributes:
        init: as in `Rule`; the params are those of the two-way model.
        estimate: as in `Rule`.
        predict: as in `Rule`.
        extended: ``(model, params, *, key, input_shape) -> (two-way model, its params)``: a plain model and its
            parameters, extended by downward ones.
        generate: ``(model, params, y) -> x``: what the label end predicts.
        reconstruct: ``(model, params, x, layer) -> x``: what layer 1..L predicts when x is shown.
        infer: ``(model, params, x=None, y=None, mask=None, *, n=None) -> Inferred``.
        origin: as in `Rule`.
    """

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]
    predict: Callable[..., PyTree]
    extended: Callable[..., tuple[Layered, PyTree]]
    generate: Callable[..., jax.Array]
    reconstruct: Callable[..., jax.Array]
    infer: Callable[..., Inferred]
    origin: Any = None


def build(
    config: BiPCConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> BiPCRule:
    """The rule "bidirectional predictive coding".

    Args:
        config: settings.
        loss: at the label end, ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    scores = objective(loss, accuracy, has_aux), objective(loss_function(config.loss_b), None)

    def both(model: Any, params: PyTree) -> Layered:
        return checked(model, params, config.shared)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        both(model, params)
        return model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        task = learning_task(config, scores, both(model, params), params, batch)
        return _report(task, relaxed_both(task), params), state

    def predict(model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
        return both(model, params).apply(params, model_state_of(state), x)[0]

    def extend(model: Any, params: PyTree, *, key: jax.Array, input_shape: Shape) -> tuple[Layered, PyTree]:
        more = extended(model, params, key=key, input_shape=input_shape, shared=config.shared)
        return two_way(model, config.shared), more

    def generate(model: Any, params: PyTree, y: jax.Array) -> jax.Array:
        return generated(both(model, params), params, y)

    def reconstruct(model: Any, params: PyTree, x: jax.Array, layer: int = 1) -> jax.Array:
        return reconstructed(both(model, params), params, x, layer)

    def infer(
        model: Any, params: PyTree, x: Any = None, y: Any = None, mask: Any = None, *, n: int | None = None
    ) -> Inferred:
        task, known = query_task(config, scores, both(model, params), params, x, y, mask)
        return inferred(task, known, INFER_SWEEPS * config.n if n is None else n)

    return BiPCRule(init, estimate, predict, extend, generate, reconstruct, infer)


def _report(task: BothWays, found: SolutionBoth, params: PyTree) -> Estimate:
    """Report the loss of the upward sweep, wherever the activities have moved."""
    outputs = found.up.outputs if found.up else task.up.model(task.up.params, task.up.x)
    loss, extra = task.up.score.loss(outputs, task.up.y)
    aux = {**loss_aux(extra), "steps": jnp.asarray(task.config.n, jnp.int32), **_norms(found)}
    aux |= {"energy": found.energy, "energy_change": found.energy_change, "step_scale": found.step_scale}
    if found.trace is not None:
        aux |= {"energy_trace": found.trace["energy"], "trace": {"inference": found.trace}}
    grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found.grads))
    return Estimate(grads, loss, task.up.score.accuracy(outputs, task.up.y), aux)


def _norms(found: SolutionBoth) -> dict[str, jax.Array]:
    """Norms of the errors of every prediction: upward of v_1..v_L, downward of v_0..v_{L-1}."""
    ways: tuple[tuple[str, Solution | None], ...] = (("error_norms", found.up), ("error_norms_down", found.down))
    return {
        name: jnp.stack([tree_norm(e) for e in (way.errors if name == "error_norms" else way.errors[::-1])])
        for name, way in ways
        if way is not None
    }

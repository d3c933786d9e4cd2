r"""Bidirectional predictive coding: every layer predicts the one above and the one below.

One network then classifies (an upward sweep), generates (a downward sweep from a label), reconstructs its input from
any layer, and fills in missing parts of either end. The energy and its descent are in `relaxation`, the downward
direction in `layers`, queries to the network in `inference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional.inference import (
    Inferred,
    bottom_like,
    clamped,
    generated,
    inferred,
    reconstructed,
    top_like,
)
from neurai_algorithms.bidirectional.layers import check_params, extended, input_shapes, reverse, two_way
from neurai_algorithms.bidirectional.relaxation import BothWays, SolutionBoth, known_to_be, relaxed_both
from neurai_algorithms.bidirectional.spec import BiPCConfig
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.task import Solution, Task
from neurai_core.arrays import PyTree, Shape, batch_size, shape_text, tree_norm
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, check_forward
from neurai_core.losses import loss_function
from neurai_core.rule import Estimate, Objective, check_objective, loss_aux, model_state_of, objective, split_batch

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
    both = partial(_both, config)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        both(model, params)
        return model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        task = _checked_task(config, scores, both(model, params), params, batch)
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
        model = both(model, params)
        (x, known_x), (y, known_y) = _ends(model, params, x, y, mask)
        task = _task(config, scores, model, params, x, y, y)
        return inferred(task, (known_x, known_y), INFER_SWEEPS * config.n if n is None else n)

    return BiPCRule(init, estimate, predict, extend, generate, reconstruct, infer)


# ---------------------------------------------------------------------------- the batch as the solver sees it


def _both(config: BiPCConfig, model: Any, params: PyTree) -> Layered:
    """The two-way model, its parameters checked."""
    both = two_way(model, config.shared)
    check_params(both, params)
    return both


def _checked_task(
    config: BiPCConfig, scores: tuple[Objective, Objective], model: Layered, params: PyTree, batch: PyTree
) -> BothWays:
    """Everything that can be wrong with a batch, found without computing."""
    x, y = split_batch(batch)
    outputs = check_forward(model, params, x)
    _check_bottom(params, x)
    check_objective(scores[0], outputs, y)
    x = model.inputs(params, x)
    check_objective(scores[1], jax.eval_shape(lambda x: x, x), x)
    return _task(config, scores, model, params, x, y, clamped(model, params, y))


def _task(
    config: BiPCConfig,
    scores: tuple[Objective, Objective],
    model: Layered,
    params: PyTree,
    x: jax.Array,
    y: jax.Array,
    top: jax.Array,
) -> BothWays:
    shapes = input_shapes(params)[1:]
    maps = [math.prod(shape) for shape in shapes if len(shape) > 1]
    full = config.for_inputs(math.prod(x.shape[1:]), max(maps, default=0))
    settings = PCConfig.model_validate({}).model_copy(
        update={"loss_scale": _loss_scale(config.loss_scale, full.precision, x)}
    )
    states: tuple[PyTree, ...] = ((),) * len(model)
    down, down_params = reverse(model, params)
    own = tuple(params)
    return BothWays(
        Task(model=model, params=own, states=states, x=x, y=y, key=None, score=scores[0], config=settings),
        Task(model=down, params=down_params, states=states, x=top, y=x, key=None, score=scores[1], config=settings),
        full,
        _hidden_down(config, full.precision, shapes),
    )


def _loss_scale(scale: Any, precision: Any, x: jax.Array) -> Any:
    """The factor on both losses: F over the precision is minimized, so that the step need not depend on it."""
    if known_to_be(precision, 1):
        return scale
    return (float(batch_size(x)) if scale == "per_sample" else scale) / precision


def _hidden_down(given: BiPCConfig, precision: Any, shapes: tuple[Shape, ...]) -> tuple[Any, ...] | None:
    """Weights of the downward errors of hidden layers: with ``alpha_b`` by default, a mean over positions."""
    positions = [1 if given.alpha_b is not None else math.prod(shape[:-1]) for shape in shapes]
    weights = tuple(1 / (precision * count) for count in positions)
    return None if all(known_to_be(weight, 1) for weight in weights) else weights


def _check_bottom(params: PyTree, x: jax.Array) -> None:
    expected = input_shapes(params)[0]
    if tuple(x.shape[1:]) != expected:
        raise ModelError(
            f"x is {shape_text(x)}, but the downward direction gives examples of shape {expected}.",
            hint="Downward biases have the shape of the data: make the parameters with this input_shape.",
        )


def _ends(model: Layered, params: PyTree, x: Any, y: Any, mask: Any) -> tuple[Any, Any]:
    """Both ends as arrays, zeros where nothing is given, each with a mask of what is known."""
    if x is None and y is None:
        raise UsageError(
            "infer needs x, y or both, and got neither.", hint="generate(model, params, y) is a sweep down."
        )
    batch = jnp.shape(y if x is None else x)[0]
    masks = mask if isinstance(mask, tuple | list) else (mask, None)
    bottom, top = bottom_like(params, batch), top_like(model, params, batch)
    if x is not None:
        _check_bottom(params, x)
    return _end(x, masks[0], bottom), _end(None if y is None else clamped(model, params, y), masks[1], top)


def _end(given: Any, mask: Any, like: jax.ShapeDtypeStruct) -> tuple[jax.Array, jax.Array]:
    if given is None:
        return jnp.zeros(like.shape, like.dtype), jnp.zeros(like.shape, bool)
    known = jnp.broadcast_to(True if mask is None else jnp.asarray(mask, bool), like.shape)
    return jnp.where(known, jnp.asarray(given, like.dtype), 0), known


# ---------------------------------------------------------------------------- after a batch


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

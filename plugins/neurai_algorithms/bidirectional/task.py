"""A batch as both directions of a two-way network see it; what is wrong with it is found without computing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional.layers import input_shapes, reverse
from neurai_algorithms.bidirectional.spec import BiPCConfig
from neurai_algorithms.differences import add
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.task import Task
from neurai_core.arrays import PyTree, Shape, batch_size, shape_text, tree_scale
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, check_forward
from neurai_core.losses import as_targets, is_labels
from neurai_core.rule import Objective, check_objective, split_batch

Activities = tuple[PyTree, ...]
Scores = tuple[Objective, Objective]  # at the label end, and at the input end
Known = tuple[jax.Array, jax.Array]  # masks of the input end and of the label end


class BothWays(NamedTuple):
    """One batch for one two-way network.

    Attributes:
        up: layers f_1..f_L from x, targets y.
        down: layers g_L..g_1 from the label end v_L, targets x.
        config: settings.
        hidden_down: weights of the downward errors of v_1..v_{L-1}, beside alpha_b; None for 1.
    """

    up: Task
    down: Task
    config: BiPCConfig
    hidden_down: tuple[Any, ...] | None = None

    def weighed(self, up: PyTree, down: PyTree) -> PyTree:
        """The sum of both directions' parts, weighted as in the energy."""
        alpha_f, alpha_b = self.config.weights
        return add(tree_scale(up, alpha_f), tree_scale(down, alpha_b))


def known_to_be(alpha: Any, number: int) -> bool:
    """Whether a weight is known to equal a number; a traced weight is never known."""
    return isinstance(alpha, int | float) and alpha == number


def learning_task(config: BiPCConfig, scores: Scores, model: Layered, params: PyTree, batch: PyTree) -> BothWays:
    """A batch to learn from, its errors found without computing."""
    x, y = split_batch(batch)
    outputs = check_forward(model, params, x)
    _check_bottom(params, x)
    check_objective(scores[0], outputs, y)
    x = model.inputs(params, x)
    check_objective(scores[1], jax.eval_shape(lambda x: x, x), x)
    return _both_ways(config, scores, model, params, x, y, clamped(model, params, y))


def _both_ways(
    config: BiPCConfig,
    scores: Scores,
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


def query_task(
    config: BiPCConfig, scores: Scores, model: Layered, params: PyTree, x: Any, y: Any, mask: Any
) -> tuple[BothWays, Known]:
    """A batch of which parts are missing, and masks of what is known of both ends."""
    (x, known_x), (y, known_y) = _ends(model, params, x, y, mask)
    return _both_ways(config, scores, model, params, x, y, y), (known_x, known_y)


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


def top_like(model: Layered, params: PyTree, batch: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of the label end for a batch, without computing."""
    return jax.eval_shape(model, params, bottom_like(params, batch))


def bottom_like(params: PyTree, batch: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of the input end for a batch."""
    return jax.ShapeDtypeStruct((batch, *input_shapes(params)[0]), params[0]["down"]["b"].dtype)


def clamped(model: Layered, params: PyTree, y: jax.Array) -> jax.Array:
    """Activities of the label end for given ones, or for integer labels.

    Raises:
        ModelError: y has neither the shape of labels nor that of the outputs.
        DataError: labels known to be outside the classes.
    """
    outputs, y = top_like(model, params, jnp.shape(y)[0] if jnp.ndim(y) else 1), jnp.asarray(y)
    if y.shape != outputs.shape and not is_labels(outputs, y):
        raise ModelError(
            f"y is {shape_text(y)}, expected integer labels of shape (B,) or activities {shape_text(outputs)}.",
            hint="For one image per class: y=jnp.arange(n_classes).",
        )
    return as_targets(jax.ShapeDtypeStruct(outputs.shape, outputs.dtype), y)

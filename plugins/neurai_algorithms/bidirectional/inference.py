r"""Queries to a two-way network: generate from a label, reconstruct from a layer, fill in missing parts.

Filling in is descent on the energy: known values are held fixed, everything else moves. A missing end is a layer like
any other: it contributes 1/2 |prediction - activity|^2 where it is missing, and the loss covers only what is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional.layers import reverse
from neurai_algorithms.bidirectional.steps import curvatures, state_step
from neurai_algorithms.bidirectional.task import BothWays, Known, clamped
from neurai_algorithms.predictive_coding.task import half_square
from neurai_algorithms.stable_step import curvature_of
from neurai_core.arrays import PyTree, Scalar
from neurai_core.errors import UsageError
from neurai_core.layered import Layered
from neurai_core.relaxation import relax

NodeValues = tuple[jax.Array, ...]


class Inferred(NamedTuple):
    """Result of `infer`.

    Attributes:
        x: the input, with missing parts filled in.
        hidden: activities v_1..v_{L-1}.
        y: activities of the label end; where they were given, as given (labels as one-hot rows).
        energy: F at the end, a scalar.
    """

    x: jax.Array
    hidden: tuple[jax.Array, ...]
    y: jax.Array
    energy: Scalar


def generated(model: Layered, params: PyTree, y: jax.Array) -> jax.Array:
    """The inputs that a label end predicts: one sweep down."""
    down, down_params = reverse(model, params)
    return down(down_params, clamped(model, params, y))


def reconstructed(model: Layered, params: PyTree, x: jax.Array, layer: int) -> jax.Array:
    """The inputs that layer 1..L predicts when x is shown: a sweep up to it and back down.

    Raises:
        UsageError: the network has no such layer.
    """
    if not 1 <= layer <= len(model):
        raise UsageError(
            f"layer={layer}: the network has layers 1 to {len(model)}.", hint="Layer 1 is the one above the input."
        )
    down, down_params = reverse(model, params)
    v = Layered(model.layers[:layer])(params[:layer], x)
    return Layered(down.layers[-layer:])(down_params[-layer:], v)


# ---------------------------------------------------------------------------- filling in


def inferred(task: BothWays, known: Known, n: int) -> Inferred:
    """Relax everything that is not known.

    Args:
        task: the batch; the inputs of its ways hold what is known of both ends.
        known: masks of both ends, True where the end is known.
        n: steps.
    """
    start = _start(task, known)
    held = [known[0], *(jnp.zeros((), bool) for _ in start[1:-1]), known[1]]
    slope = jax.grad(lambda values: energy(task, known, values))
    precision: Any = task.config.precision
    paces = (precision, *(1.0 for _ in start[1:-1]), precision)  # a missing end is lighter by it, and not slower

    def uphill(values: NodeValues) -> NodeValues:
        return tuple(jnp.where(h, 0, pace * g) for h, pace, g in zip(held, paces, slope(values), strict=True))

    bounded = task.config.stable and task.config.eta_trace is None
    transformation = state_step(task, lambda: curvatures(task), curvature_of(uphill, start) if bounded else None)

    def step(t: Any, state: tuple[NodeValues, PyTree]) -> tuple[NodeValues, PyTree]:
        values, carry = state
        free = uphill(values)
        updates, carry = transformation.update(free, carry, values)
        return tuple(jnp.where(h, v, v + u) for h, v, u in zip(held, values, updates, strict=True)), carry

    values, _ = relax(step, (start, transformation.init(start)), n).state
    return Inferred(values[0], values[1:-1], values[-1], energy(task, known, values))


def energy(task: BothWays, known: Known, values: NodeValues) -> Scalar:
    """F over the precision at v_0..v_L, each end compared by its loss where it is known, by squares elsewhere."""
    alpha_f, alpha_b = task.config.weights
    weights = task.hidden_down or (1.0,) * (len(values) - 2)
    ups = [f.apply(p, (), v)[0] for f, p, v in zip(task.up.model.layers, task.up.params, values, strict=False)]
    downs = [
        g.apply(p, (), v)[0] for g, p, v in zip(task.down.model.layers, task.down.params, values[:0:-1], strict=True)
    ][::-1]
    up = sum((half_square(p - v) for p, v in zip(ups, values[1:-1], strict=False)), jnp.zeros(()))
    errors = (half_square(p - v) for p, v in zip(downs[1:], values[1:-1], strict=True))
    down = sum((w * e for w, e in zip(weights, errors, strict=True)), jnp.zeros(()))
    return alpha_f * (up + _end(task, task.up, ups[-1], values[-1], known[1])) + alpha_b * (
        down + _end(task, task.down, downs[0], values[0], known[0])
    )


def _end(task: BothWays, way: Any, prediction: jax.Array, activity: jax.Array, known: jax.Array) -> Scalar:
    """The loss where the end is known, 0 if nothing is known, and squared errors elsewhere."""
    target = jnp.where(known, activity, jax.lax.stop_gradient(prediction))
    loss = replace(way, y=jax.lax.stop_gradient(target)).scaled_loss(prediction)
    precision: Any = task.config.precision
    missing = half_square(jnp.where(known, 0, prediction - activity)) / precision
    return jnp.where(known.any(), loss, 0) + missing


def _start(task: BothWays, known: Known) -> NodeValues:
    """A sweep up from the known input, its gaps filled by what the label predicts, or by its own reconstruction."""
    up, down = task.up, task.down
    top = jnp.where(known[1].all(), down.x, up.model(up.params, up.x))
    below = down.model(down.params, jnp.where(known[1], down.x, top))
    x = jnp.where(known[0], up.x, below)
    values = [x]
    for layer, params in zip(up.model.layers, up.params, strict=True):
        values.append(layer.apply(params, (), values[-1])[0])
    return (*values[:-1], jnp.where(known[1], down.x, values[-1]))

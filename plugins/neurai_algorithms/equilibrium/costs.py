"""The cost that nudges the outputs, its gradient in closed form where there is one, and what functions must be.

Costs are per example: with a loss that is a mean over the batch, ``beta`` means the same for every batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.errors import ModelError, UsageError
from neurai_core.losses import (
    as_targets,
    cross_entropy,
    squared_error,
    sum_cross_entropy,
    sum_squared_error,
)
from neurai_core.rule import Objective

SUMS = (sum_cross_entropy, sum_squared_error)  # losses that add up over the batch
SQUARED = (squared_error, sum_squared_error)  # losses of curvature 1


class Cost(NamedTuple):
    """The cost of one batch.

    Attributes:
        score: loss and accuracy.
        loss: the loss as the user gave it; known ones have a closed form.
        y: targets.
    """

    score: Objective
    loss: Callable[..., Any]
    y: PyTree

    def scale(self, size: int) -> int:
        """What the loss of the batch is of the mean cost per example: the batch size for a sum, else 1."""
        return size if self.loss in SUMS else 1

    def value(self, outputs: jax.Array) -> Scalar:
        """Mean cost per example."""
        return self.score.loss(outputs, self.y)[0] / self.scale(len(outputs))

    def gradient(self, outputs: jax.Array) -> jax.Array:
        """Gradient of every example's cost with respect to its outputs."""
        if self.loss in (cross_entropy, sum_cross_entropy) and outputs.ndim == 2:
            targets = as_targets(outputs, self.y)
            return softmax(outputs) * targets.sum(axis=-1, keepdims=True) - targets
        if self.loss in SQUARED:
            return outputs - as_targets(outputs, self.y)
        holomorphic = jnp.iscomplexobj(outputs)
        return len(outputs) * jax.grad(self.value, holomorphic=holomorphic)(outputs)


def softmax(outputs: jax.Array) -> jax.Array:
    """Softmax over the last axis, analytic in complex outputs.

    >>> softmax(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    shift = jnp.max(outputs.real, axis=-1, keepdims=True)
    powers = jnp.exp(outputs - shift)
    return powers / powers.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------- what functions must be


def check_elementwise(activation: Elementwise) -> None:
    """Find out by trying whether a function treats every entry by itself.

    Raises:
        ModelError: it does not; names it.

    >>> check_elementwise(jnp.tanh)
    """
    reason = _not_elementwise(activation)
    if reason:
        raise ModelError(
            f"The activation {_name(activation)} is not elementwise: {reason}.",
            hint="Take a function of single numbers, such as jnp.tanh; softmax belongs in the loss.",
        )


@lru_cache(maxsize=256)
def _not_elementwise(activation: Elementwise) -> str:
    entries = np.array([[-1.5, -0.2, 0.3], [0.7, 1.1, 2.0]])
    with jax.ensure_compile_time_eval():
        try:
            together = np.asarray(activation(jnp.asarray(entries)))
            alone = np.asarray([[activation(jnp.full((1, 1), e))[0, 0] for e in row] for row in entries])
        except (TypeError, ValueError, IndexError) as error:
            return (str(error).strip() or type(error).__name__).splitlines()[0]
    if together.shape != entries.shape:
        return f"it turns shape {entries.shape} into {together.shape}"
    return "" if np.allclose(together, alone, rtol=1e-4, atol=1e-5) else "an entry depends on its neighbors"


def check_holomorphic(activations: list[Elementwise], cost: Cost, outputs: jax.Array) -> None:
    """Find out by trying whether activations and loss have a complex derivative around the real axis.

    A holomorphic function is the mean of its values on a circle around a point. Neither a kink nor a
    conjugation has that property.

    Args:
        activations: elementwise functions.
        cost: the cost of the batch; known losses are not tried.
        outputs: shape and dtype of the outputs.

    Raises:
        UsageError: one of them does not; names it.
    """
    for activation in activations:
        if not _analytic(activation):
            raise UsageError(
                f"EP: mode holomorphic needs a holomorphic activation, and {_name(activation)} is not.",
                hint="Use sigmoid or tanh, or mode symmetric or richardson, which need no complex numbers.",
            )
    if not _analytic_loss(cost.loss, cost.score, outputs, cost.y):
        raise UsageError(
            f"EP: mode holomorphic needs a holomorphic loss, and {_name(cost.loss)} is not.",
            hint="Use squared_error, mse or cross_entropy, or mode symmetric or richardson.",
        )


_CIRCLE = 0.25 * np.exp(2j * np.pi * np.arange(16) / 16)


@lru_cache(maxsize=256)
def _analytic(function: Callable[[jax.Array], jax.Array]) -> bool:
    centers = np.linspace(-3, 3, 49)
    with jax.ensure_compile_time_eval():
        try:
            around = np.asarray(function(jnp.asarray(centers[:, None] + _CIRCLE)))
            inside = np.asarray(function(jnp.asarray(centers + 0j)))
        except (TypeError, ValueError, NotImplementedError):
            return False
    return bool(np.allclose(around.mean(axis=1), inside, rtol=1e-4, atol=1e-4))


def _analytic_loss(loss: Callable[..., Any], score: Objective, outputs: jax.Array, y: PyTree) -> bool:
    if loss in (cross_entropy, *SUMS, *SQUARED):
        return True
    direction = np.cos(np.arange(outputs.size)).reshape(outputs.shape)
    with jax.ensure_compile_time_eval():
        targets = jnp.zeros(y.shape, y.dtype)

        def along(t: jax.Array) -> jax.Array:
            return jnp.stack([score.loss(direction * one, targets)[0] for one in t.ravel()]).reshape(t.shape)

        try:
            values = np.asarray(along(jnp.asarray(np.append(_CIRCLE, 0))))
            jax.eval_shape(jax.grad(along, holomorphic=True), jnp.asarray(_CIRCLE[0]))  # some have a value only
        except (TypeError, ValueError, NotImplementedError):
            return False
    return bool(np.allclose(values[:-1].mean(), values[-1], rtol=1e-4, atol=1e-4))


def _name(function: Any) -> str:
    function = getattr(function, "func", function)
    return getattr(function, "__name__", None) or type(function).__name__

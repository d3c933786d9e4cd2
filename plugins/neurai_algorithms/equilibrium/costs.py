"""The cost that nudges the outputs, and its gradient, in closed form where one exists.

Costs are per example: with a loss that is a mean over the batch, ``beta`` means the same for every batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar
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
        """The ratio of the batch's loss to the mean cost per example: the batch size for a sum, else 1."""
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

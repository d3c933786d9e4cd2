"""Evaluation on the test set, in large batches, with the rule's own prediction."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree, Scalar
from neurai_core.training.task import Task

AT_ONCE = 4096  # approximate number of rows evaluated together


def evaluate(task: Task, params: PyTree, state: PyTree) -> tuple[float, float]:
    """Loss and accuracy on the test set, as means over batches of the training batch size.

    Batches are weighted by size: a loss that is a mean over the batch gives the mean over the test set.
    """
    return evaluator(task)(params, state)


def evaluator(task: Task) -> Callable[[PyTree, PyTree], tuple[float, float]]:
    """`evaluate` for one task, compiled once: ``(params, state) -> (loss, accuracy)``."""
    at_once = task.batch_size * max(1, AT_ONCE // task.batch_size)
    n = len(task.data.x_test)
    batches = [
        tuple(jax.device_put(part[at : at + at_once]) for part in (task.data.x_test, task.data.y_test))
        for at in range(0, n, at_once)
    ]

    @jax.jit
    def scores(params: PyTree, state: PyTree, x: jax.Array, y: jax.Array) -> Scalar:
        return _scores(task, task.rule.predict(task.model, params, x, state), y)

    def test(params: PyTree, state: PyTree) -> tuple[float, float]:
        parts = [scores(params, state, x, y) for x, y in batches]
        losses, accuracies = np.stack(jax.device_get(parts), axis=1, dtype=np.float64)
        return float(losses.sum()) / n, float(accuracies.sum()) / n

    return test


def _scores(task: Task, outputs: PyTree, y: jax.Array) -> Scalar:
    """Sum over batches of (loss, accuracy) times the size of the batch."""

    def score(outputs: PyTree, y: jax.Array) -> Scalar:
        return jnp.stack([task.score.loss(outputs, y)[0], task.score.accuracy(outputs, y)])

    size, n = task.batch_size, y.shape[0]
    whole = n // size * size
    batched = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, size, *leaf.shape[1:]), (outputs, y))
    total = size * jax.vmap(score)(*batched).sum(axis=0)
    if whole == n:
        return total
    return total + (n - whole) * score(*jax.tree.map(lambda leaf: leaf[whole:], (outputs, y)))

"""Evaluation on the test set, in large batches, with the rule's own prediction; or by a probe of its features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree, Scalar
from neurai_core.data import Dataset
from neurai_core.losses import accuracy
from neurai_core.probe import linear_probe
from neurai_core.rising import unwatched
from neurai_core.training.devices import place_batch, place_everywhere
from neurai_core.training.host_data import HostParts, on_device
from neurai_core.training.task import Task

Applied: TypeAlias = Callable[[Task, Any], Task]
NONE: Any = ()  # no numbers
AT_ONCE = 4096  # approximate number of rows evaluated together,
BYTES_AT_ONCE = 2**29  # unless they take more than 512 MiB


def evaluate(task: Task, params: PyTree, state: PyTree) -> tuple[float, float]:
    """Loss and accuracy on the test set, as means over batches of the training batch size; nan without test data.

    Batches are weighted by size: a loss that is a mean over the batch gives the mean over the test set. If the rule
    learns from inputs alone, the loss is its own, and the accuracy that of a linear probe, fitted to the features of
    the training set; -1 without classes.
    """
    return evaluator(task)(params, state)


def evaluator(task: Task) -> Callable[[PyTree, PyTree], tuple[float, float]]:
    """`evaluate` for one task, compiled once: ``(params, state) -> (loss, accuracy)``."""
    if not len(task.data.x_test):
        return lambda params, state: (math.nan, math.nan)
    if task.unsupervised:
        return _prober(task, _same)
    test = _tester(task, jax.jit(partial(_scored, task, _same)))

    def one(params: PyTree, state: PyTree) -> tuple[float, float]:
        loss, accuracy = test(params, state, NONE)
        return float(loss), float(accuracy)

    return one


def evaluator_of_several(
    task: Task, tasks: int, applied: Applied
) -> Callable[[PyTree, PyTree, Any], Sequence[tuple[float, float]]]:
    """`evaluate` for several tasks at once: ``(params, state, numbers) -> `` loss and accuracy of each.

    Args:
        task: one of the tasks.
        tasks: their number, the length of the first axis of all arguments.
        applied: ``(task, numbers) -> `` the task with these numbers, which may be traced.
    """
    if not len(task.data.x_test):
        return lambda params, state, numbers: [(math.nan, math.nan)] * tasks
    if task.unsupervised:
        probed = _prober(task, applied)
        return lambda *stacked: [probed(*one_of(stacked, at)) for at in range(tasks)]
    scores = jax.jit(jax.vmap(partial(_scored, task, applied), in_axes=(0, 0, None, None, 0)))
    test = _tester(task, scores, tasks)
    return lambda *stacked: [(float(loss), float(accuracy)) for loss, accuracy in test(*stacked)]


@jax.jit
def one_of(stacked: PyTree, at: int) -> PyTree:
    """The leaves of one task; together, because dispatching each of them alone takes longer than a step."""
    return jax.tree.map(itemgetter(at), stacked)


def _same(task: Task, numbers: Any) -> Task:
    return task


def _scored(
    task: Task, applied: Applied, params: PyTree, state: PyTree, x: jax.Array, y: jax.Array, numbers: Any
) -> Scalar:
    """`_scores` of the rule's prediction, (2,)."""
    made = applied(task, numbers)
    return _scores(made, made.rule.predict(made.model, params, x, state), y)


def _tester(task: Task, scores: Callable[..., jax.Array], tasks: int = 1) -> Callable[..., np.ndarray]:
    """``(params, state, numbers) -> `` loss and accuracy on the test set, (2,), or (tasks, 2) if the scores are so."""
    n, batches = len(task.data.x_test), _batches(task, "test", task.data.x_test, task.data.y_test, tasks=tasks)

    def test(params: PyTree, state: PyTree, numbers: Any) -> np.ndarray:
        parts = [_at_once(batches, scores(params, state, x, y, numbers)) for x, y in batches]
        total: np.ndarray = np.stack(jax.device_get(parts), axis=-1, dtype=np.float64).sum(axis=-1)
        return total / n

    return test


def _batches(task: Task, part: str, *arrays: Any, tasks: int = 1) -> Iterable[tuple[jax.Array, ...]]:
    """The rows of a part on the devices, a whole number of batches together; from the host where they stay there."""
    of_one = max(1, math.prod(arrays[0].shape[1:]) * arrays[0].dtype.itemsize)
    rows = min(AT_ONCE, BYTES_AT_ONCE // of_one) // tasks
    at_once = task.batch_size * max(1, rows // task.batch_size)
    if not on_device(task.data, part):
        return HostParts(task.data, arrays, at_once, task.mesh)
    starts = range(0, len(arrays[0]), at_once)
    return [place_batch(task.mesh, [one[at : at + at_once] for one in arrays]) for at in starts]


def _at_once(batches: Iterable[Any], found: jax.Array) -> jax.Array:
    """What was computed of a part of the rows, waited for if they come from the host, so that few are there at once."""
    return found.block_until_ready() if isinstance(batches, HostParts) else found


def _prober(task: Task, applied: Applied) -> Callable[..., tuple[float, float]]:
    """The evaluation of a rule that learns from inputs alone: its own loss, and the accuracy of a linear probe."""
    data, n_classes = cast(Dataset, task.data), task.data.n_classes or 0  # a stream has no test data here
    train, test = _batches(task, "train", data.x_train), _batches(task, "test", data.x_test, data.y_test)
    y_train, y_test = (place_everywhere(task.mesh, part) for part in (data.y_train, data.y_test))

    @jax.jit
    def features(params: PyTree, state: PyTree, x: jax.Array, numbers: Any) -> jax.Array:
        made = applied(task, numbers)
        return made.rule.predict(made.model, params, x, state)  # type: ignore[no-any-return]

    @jax.jit
    def own_loss(params: PyTree, state: PyTree, x: jax.Array, y: jax.Array, numbers: Any) -> Scalar:
        made = applied(task, numbers)
        with unwatched():
            return made.rule.estimate(made.model, params, state, (x, y), key=jax.random.key(task.seed))[0].loss

    @jax.jit
    def probed(train: jax.Array, test: jax.Array, y_train: jax.Array, y_test: jax.Array) -> Scalar:
        return accuracy(linear_probe(train, y_train, n_classes)(test), y_test)

    def all_features(batches: Any, params: PyTree, state: PyTree, numbers: Any) -> jax.Array:
        return jnp.concatenate([_at_once(batches, features(params, state, x, numbers)) for x, *_ in batches])

    def test_by_probe(params: PyTree, state: PyTree, numbers: Any = NONE) -> tuple[float, float]:
        losses = [float(own_loss(params, state, x, y, numbers)) * len(x) for x, y in test]
        loss = sum(losses) / len(data.x_test)
        if not n_classes:
            return loss, -1.0
        found = (all_features(batches, params, state, numbers) for batches in (train, test))
        return loss, float(probed(*found, y_train, y_test))

    return test_by_probe


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

"""Losses and accuracies by name, on optax; each is one scalar per batch with its reduction stated.

A loss is any callable ``(outputs, targets) -> scalar``. Targets of the classification losses are integer
labels, shape ``outputs.shape[:-1]``, or probabilities (one-hot), shape ``outputs.shape``. The regression
losses turn integer labels into one-hot targets, so every loss trains a classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neurai_core.arrays import Scalar
from neurai_core.errors import UnknownName, UsageError
from neurai_core.naming import canonical, did_you_mean

BatchScore = Callable[[jax.Array, jax.Array], Scalar]


@dataclass(frozen=True)
class Score:
    """A named loss or accuracy: the callable and what it means.

    Attributes:
        name: lookup name.
        call: ``(outputs, targets) -> scalar``.
        reduction: how the batch becomes one scalar.
    """

    name: str
    call: BatchScore
    reduction: str


def as_targets(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Targets in the shape and dtype of the outputs; integer labels become one-hot rows.

    >>> as_targets(jnp.zeros((2, 3)), jnp.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if is_labels(outputs, targets):
        return jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return jnp.asarray(targets, outputs.dtype)


def is_labels(outputs: jax.Array, targets: jax.Array) -> bool:
    """Whether targets are integer labels of the outputs' last axis."""
    return jnp.issubdtype(jnp.result_type(targets), jnp.integer) and jnp.ndim(targets) == outputs.ndim - 1


def _cross_entropies(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    if is_labels(outputs, targets):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return optax.losses.softmax_cross_entropy(outputs, as_targets(outputs, targets))


def _per_example(elements: jax.Array) -> jax.Array:
    return elements.reshape(elements.shape[0], -1).sum(axis=1)


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), mean over the batch.

    >>> round(float(cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    2.3026
    """
    return jnp.mean(_cross_entropies(outputs, targets))


def sum_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), sum over the batch.

    >>> round(float(sum_cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    9.2103
    """
    return jnp.sum(_cross_entropies(outputs, targets))


def binary_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Sigmoid cross entropy of logits, mean over batch and outputs.

    >>> round(float(binary_cross_entropy(jnp.zeros((4, 1)), jnp.ones((4, 1)))), 4)
    0.6931
    """
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(outputs, as_targets(outputs, targets)))


def mse(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Squared error ``(outputs - targets)^2``, mean over batch and outputs.

    >>> float(mse(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(optax.losses.squared_error(outputs, as_targets(outputs, targets)))


def squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs, mean over the batch.

    >>> float(squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(_per_example(optax.losses.l2_loss(outputs, as_targets(outputs, targets))))


def sum_squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs and batch.

    >>> float(sum_squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    4.0
    """
    return jnp.sum(optax.losses.l2_loss(outputs, as_targets(outputs, targets)))


def mae(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Absolute error, mean over batch and outputs.

    >>> float(mae(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    2.0
    """
    return jnp.mean(jnp.abs(outputs - as_targets(outputs, targets)))


def huber(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Huber loss with threshold 1, mean over batch and outputs.

    >>> float(huber(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.5
    """
    return jnp.mean(optax.losses.huber_loss(outputs, as_targets(outputs, targets)))


def accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Share of the batch whose largest output is the target's class, 0 to 1.

    >>> float(accuracy(jnp.eye(4), jnp.array([0, 1, 0, 0])))
    0.5
    """
    labels = targets if is_labels(outputs, targets) else jnp.argmax(targets, axis=-1)
    return jnp.mean(jnp.argmax(outputs, axis=-1) == labels, dtype=outputs.dtype)


def top_5_accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Share of the batch whose class is among the five largest outputs, 0 to 1.

    >>> float(top_5_accuracy(-jnp.arange(10.0)[None], jnp.array([4])))
    1.0
    """
    labels = targets if is_labels(outputs, targets) else jnp.argmax(targets, axis=-1)
    best = jax.lax.top_k(outputs, 5)[1]
    return jnp.mean(jnp.any(best == labels[..., None], axis=-1), dtype=outputs.dtype)


def binary_accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Share of logits on the target's side of 0, 0 to 1.

    >>> float(binary_accuracy(jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [1.0]])))
    0.5
    """
    return jnp.mean((outputs >= 0) == (as_targets(outputs, targets) >= 0.5), dtype=outputs.dtype)


LOSSES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("cross_entropy", cross_entropy, "mean over the batch"),
        Score("sum_cross_entropy", sum_cross_entropy, "sum over the batch"),
        Score("binary_cross_entropy", binary_cross_entropy, "mean over batch and outputs"),
        Score("mse", mse, "mean over batch and outputs"),
        Score("squared_error", squared_error, "half sum over outputs, mean over the batch"),
        Score("sum_squared_error", sum_squared_error, "half sum over outputs and batch"),
        Score("mae", mae, "mean over batch and outputs"),
        Score("huber", huber, "mean over batch and outputs"),
    )
}
ACCURACIES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("accuracy", accuracy, "mean over the batch"),
        Score("top_5_accuracy", top_5_accuracy, "mean over the batch"),
        Score("binary_accuracy", binary_accuracy, "mean over batch and outputs"),
    )
}


def loss_function(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    """The loss of a name; a callable is returned as it is.

    Raises:
        UnknownName: no loss has that name.
        UsageError: neither a name nor a callable.

    >>> loss_function("cross-entropy") is cross_entropy
    True
    """
    return _resolve("loss", LOSSES, loss)


def accuracy_function(accuracy: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The accuracy of a name; a callable or None is returned as it is.

    Raises:
        UnknownName: no accuracy has that name.
        UsageError: neither None, a name nor a callable.

    >>> accuracy_function(None) is None
    True
    """
    return None if accuracy is None else _resolve("accuracy", ACCURACIES, accuracy)


def _resolve(kind: str, table: dict[str, Score], given: Any) -> Callable[..., Any]:
    if callable(given):
        return given
    if not isinstance(given, str):
        raise UsageError(
            f"{kind} is a {type(given).__name__}, expected a name or a callable (outputs, targets) -> scalar.",
            hint=f"Names: {', '.join(table)}.",
        )
    found = {canonical(name): score for name, score in table.items()}.get(canonical(given))
    if found is None:
        raise UnknownName(
            f"No {kind} is named {given!r}.{did_you_mean(given, table)}", hint=f"Names: {', '.join(table)}."
        )
    return found.call

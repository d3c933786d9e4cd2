"""The losses and accuracies that have names, with their reductions."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from neurai_core.arrays import Scalar
from neurai_core.losses.contracts import BatchScore, as_targets, is_labels, takes


@dataclass(frozen=True)
class Score:
    """A named loss or accuracy: the callable and its meaning.

    Attributes:
        name: lookup name.
        call: ``(outputs, targets) -> scalar``.
        reduction: how the batch becomes one scalar.
    """

    name: str
    call: BatchScore
    reduction: str


def _cross_entropies(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    if is_labels(outputs, targets):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return optax.losses.softmax_cross_entropy(outputs, as_targets(outputs, targets))


def _per_example(elements: jax.Array) -> jax.Array:
    return elements.reshape(elements.shape[0], -1).sum(axis=1)


@takes(classes=2, low=0)
def cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), mean over the batch.

    >>> round(float(cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    2.3026
    """
    return jnp.mean(_cross_entropies(outputs, targets))


@takes(classes=2, low=0)
def sum_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), sum over the batch.

    >>> round(float(sum_cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    9.2103
    """
    return jnp.sum(_cross_entropies(outputs, targets))


@takes(low=0, high=1)
def binary_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Sigmoid cross entropy of logits, mean over batch and outputs.

    >>> round(float(binary_cross_entropy(jnp.zeros((4, 1)), jnp.ones((4, 1)))), 4)
    0.6931
    """
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(outputs, as_targets(outputs, targets)))


@takes()
def mse(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Squared error ``(outputs - targets)^2``, mean over batch and outputs.

    >>> float(mse(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(optax.losses.squared_error(outputs, as_targets(outputs, targets)))


@takes()
def squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs, mean over the batch.

    >>> float(squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(_per_example(optax.losses.l2_loss(outputs, as_targets(outputs, targets))))


@takes()
def sum_squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs and batch.

    >>> float(sum_squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    4.0
    """
    return jnp.sum(optax.losses.l2_loss(outputs, as_targets(outputs, targets)))


@takes()
def mae(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Absolute error, mean over batch and outputs.

    >>> float(mae(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    2.0
    """
    return jnp.mean(jnp.abs(outputs - as_targets(outputs, targets)))


@takes()
def huber(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Huber loss with threshold 1, mean over batch and outputs.

    >>> float(huber(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.5
    """
    return jnp.mean(optax.losses.huber_loss(outputs, as_targets(outputs, targets)))


@takes(classes=2, low=-float("inf"))
def accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Fraction of the batch whose largest output is the target's class, 0 to 1.

    >>> float(accuracy(jnp.eye(4), jnp.array([0, 1, 0, 0])))
    0.5
    """
    return _share(jnp.argmax(outputs, axis=-1) == _labels(outputs, targets), outputs)


@takes(classes=5, low=-float("inf"))
def top_5_accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Fraction of the batch whose class is among the five largest outputs, 0 to 1.

    >>> float(top_5_accuracy(-jnp.arange(10.0)[None], jnp.array([4])))
    1.0
    """
    best = jax.lax.top_k(outputs, 5)[1]
    return _share(jnp.any(best == _labels(outputs, targets)[..., None], axis=-1), outputs)


@takes(low=0, high=1)
def binary_accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Fraction of logits on the target's side of 0, 0 to 1.

    >>> float(binary_accuracy(jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [1.0]])))
    0.5
    """
    return _share((outputs >= 0) == (as_targets(outputs, targets) >= 0.5), outputs)


def _labels(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return targets if is_labels(outputs, targets) else jnp.argmax(targets, axis=-1)


def _share(right: jax.Array, outputs: jax.Array) -> Scalar:
    """Mean of correctness in float32 or wider, because bfloat16 has no number between 0.996 and 1."""
    return jnp.mean(right, dtype=jnp.promote_types(outputs.dtype, jnp.float32))


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

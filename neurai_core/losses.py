"""Losses and accuracies by name, based on optax; each gives one scalar per batch, with a stated reduction.

A loss is any callable ``(outputs, targets) -> scalar``. Your own may take anything; the named ones take the following
and reject everything else. B is the number of examples, C that of outputs or classes, ... any axes in between.

- **Outputs** are floating point, ``(B, ...)``, batch axis first. Scores that compare classes,
  ``cross_entropy``, ``sum_cross_entropy``, ``accuracy`` and ``top_5_accuracy``, need ``(B, ..., C)`` with at least two
  classes, the last one five.
- **Targets** are either numbers of exactly the outputs' shape, or, for outputs ``(B, ..., C)`` with C at least 2,
  integer labels 0..C-1 of shape ``(B, ...)``. Numbers may be floating point, integers or bools: probabilities (one-hot
  rows) for scores that compare classes, numbers in [0, 1] for binary ones, any for the others. If classes are not
  compared, labels become one-hot rows, so every loss can train a classifier.
- **Nothing is broadcast**: targets ``(B,)`` do not fit outputs ``(B, 1)``, nor labels ``(B,)`` outputs ``(B, T, C)``.
- **The result** has the dtype of the outputs; an accuracy is float32, or float64 for float64 outputs.

Shapes and dtypes are checked at every call, inside ``jax.jit`` while tracing. Values are checked if they are concrete.
Inside ``jit`` they are not, and a label outside the classes, a negative probability, or a target of a binary score
outside [0, 1] makes the score NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurai_core.arrays import Scalar, Shape, shape_text
from neurai_core.errors import DataError, UnknownName, UsageError
from neurai_core.naming import canonical, did_you_mean

BatchScore = Callable[[jax.Array, jax.Array], Scalar]


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


# ---------------------------------------------------------------------------- valid outputs and targets


class _Contract(NamedTuple):
    """The outputs and targets that a score takes.

    Attributes:
        classes: minimum number of outputs on the last axis; 0 if outputs need not be classes.
        low: minimum of targets that are not labels; None for no bound.
        high: maximum of these; None for no bound.
    """

    classes: int = 0
    low: float | None = None
    high: float = float("inf")


def _takes(
    classes: int = 0, low: float | None = None, high: float = float("inf")
) -> Callable[[BatchScore], BatchScore]:
    """Make a score reject invalid arguments, and return NaN if a traced value is out of range."""
    contract = _Contract(classes, low, high)

    def decorate(score: BatchScore) -> BatchScore:
        @wraps(score)
        def checked(outputs: jax.Array, targets: jax.Array) -> Scalar:
            check_targets(checked, outputs, targets)
            outputs, targets = jnp.asarray(outputs), _roomy(jnp.asarray(targets))
            outside = None if _known(targets) else _outside(contract, is_labels(outputs, targets), outputs, targets)
            value = score(outputs, targets)
            return value if outside is None else value + jnp.where(jnp.any(outside), jnp.nan, 0.0)

        checked.contract = contract  # type: ignore[attr-defined]
        return checked

    return decorate


def check_targets(score: Callable[..., Any] | None, outputs: Any, targets: Any) -> None:
    """Reject outputs and targets that a named score does not take; other callables take everything.

    Args:
        score: a loss or an accuracy.
        outputs: an array or a ``jax.ShapeDtypeStruct``.
        targets: likewise; values are checked if they are concrete.

    Raises:
        DataError: names the score, what it was given and what it takes.

    >>> check_targets(mse, jnp.zeros((3, 1)), jnp.zeros(3))
    Traceback (most recent call last):
        ...
    neurai_core.errors.DataError: mse got targets float32[3] for outputs float32[3,1], expected numbers of shape (3, 1).
    Use targets[..., None].
    """
    contract = getattr(score, "contract", None)
    if isinstance(contract, _Contract):
        _check(getattr(score, "__name__", ""), contract, outputs, targets)


def is_labels(outputs: Any, targets: Any) -> bool:
    """Whether targets are integer labels for the outputs' last axis, which has at least two entries.

    >>> is_labels(jnp.zeros((2, 3)), jnp.array([2, 0])), is_labels(jnp.zeros((2, 1)), jnp.array([0, 0]))
    (True, False)
    """
    several = len(outputs.shape) > 1 and outputs.shape[-1] > 1
    return bool(several and jnp.issubdtype(targets.dtype, jnp.integer) and targets.shape == outputs.shape[:-1])


def as_targets(outputs: Any, targets: jax.Array) -> jax.Array:
    """Targets in the shape and dtype of the outputs; integer labels become one-hot rows.

    Raises:
        DataError: targets have a different shape, are not numbers, or are labels outside the classes.

    >>> as_targets(jnp.zeros((2, 3)), jnp.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if _check("as_targets", _Contract(), outputs, targets):
        return jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return jnp.asarray(targets, outputs.dtype)


def _check(name: str, contract: _Contract, outputs: Any, targets: Any) -> bool:
    """Check the arguments, and return whether the targets are labels."""
    labels = _check_forms(name, contract, *_forms(name, outputs, targets))
    if _known(targets):
        values = np.asarray(targets)
        outside = _outside(contract, labels, outputs, values)
        if outside is not None and outside.any():
            raise _out_of_range(name, contract, labels, outputs.shape[-1], values, outside)
    return labels


def _known(targets: Any) -> bool:
    """Whether values can be read: not while JAX traces, nor if other processes hold a part."""
    if isinstance(targets, jax.Array):
        return not isinstance(targets, jax.core.Tracer) and targets.is_fully_addressable
    return isinstance(targets, np.ndarray | np.generic)


def _roomy(targets: jax.Array) -> jax.Array:
    """Convert integers to a type that can hold the number of classes."""
    integers = jnp.issubdtype(targets.dtype, jnp.integer)
    return targets.astype(jnp.promote_types(targets.dtype, jnp.int32)) if integers else targets


def _outside(contract: _Contract, labels: bool, outputs: Any, targets: Any) -> Any:
    """A mask of targets that are not valid classes or numbers for the score; None if all are valid."""
    if labels:
        return (targets < 0) | (targets >= outputs.shape[-1])
    if contract.low is None:
        return None
    return ~((targets >= contract.low) & (targets <= contract.high))  # so NaN is outside too


@dataclass(frozen=True)
class _Form:
    """Shape and dtype of an array, the key under which checks are cached."""

    shape: Shape
    dtype: Any


def _forms(name: str, outputs: Any, targets: Any) -> tuple[_Form, _Form]:
    for what, given, hint in (
        ("outputs", outputs, "Take a loss of your own for a tree of outputs; of_outputs is for Recorded ones."),
        ("targets", targets, "Use jnp.asarray(targets), or a loss of your own for a tree of targets."),
    ):
        if not (hasattr(given, "shape") and hasattr(given, "dtype")):
            raise DataError(f"{name} got {what} of type {type(given).__name__}, expected one array.", hint)
    return _Form(outputs.shape, outputs.dtype), _Form(targets.shape, targets.dtype)


@lru_cache(maxsize=256)
def _check_forms(name: str, contract: _Contract, outputs: _Form, targets: _Form) -> bool:
    """Check shapes and dtypes, and return whether the targets are labels."""
    _check_dtypes(name, outputs, targets)
    _check_axes(name, contract, outputs)
    labels = is_labels(outputs, targets)
    if not labels and targets.shape != outputs.shape:
        raise _misfit(name, contract, outputs, targets)
    return labels


def _check_dtypes(name: str, outputs: _Form, targets: _Form) -> None:
    if not jnp.issubdtype(outputs.dtype, jnp.inexact):
        raise DataError(
            f"{name} got outputs {shape_text(outputs)}, expected floating point.",
            "Scores compare what a model gives before any argmax or rounding: logits or numbers.",
        )
    if not any(jnp.issubdtype(targets.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise DataError(
            f"{name} got targets {shape_text(targets)}, expected integer labels or real numbers.",
            "Number the classes 0, 1, ...: np.unique(targets, return_inverse=True)[1] does.",
        )


def _check_axes(name: str, contract: _Contract, outputs: _Form) -> None:
    shape, text = outputs.shape, shape_text(outputs)
    if 0 in shape:
        raise DataError(f"{name} got an empty batch: outputs {text}.", "At least one example is needed.")
    if not shape:
        raise DataError(f"{name} got a single output, expected (B, ...), batch axis first.", "Use outputs[None].")
    if contract.classes and (len(shape) < 2 or shape[-1] < contract.classes):
        one = "For one number per example take mse, binary_cross_entropy or binary_accuracy."
        raise DataError(
            f"{name} got outputs {text}, expected (B, ..., C) with at least {contract.classes} classes, C, at the end.",
            "Use accuracy if there are fewer." if len(shape) > 1 and shape[-1] > 1 else one,
        )


def _misfit(name: str, contract: _Contract, outputs: _Form, targets: _Form) -> DataError:
    shape, numbers = outputs.shape, "probabilities" if contract.classes else "numbers"
    labels = f"integer labels of shape {shape[:-1]} or " if len(shape) > 1 and shape[-1] > 1 else ""
    return DataError(
        f"{name} got targets {shape_text(targets)} for outputs {shape_text(outputs)}, "
        f"expected {labels}{numbers} of shape {shape}.",
        _shape_hint(shape, targets.shape),
    )


def _shape_hint(outputs: Shape, targets: Shape) -> str:
    if len(outputs) > 1 and targets == outputs[:-1]:
        return "Use targets[..., None]." if outputs[-1] == 1 else "Labels are integers: use targets.astype('int32')."
    if targets in ((*outputs, 1), (*outputs[:-1], 1)):
        return "Use targets[..., 0]."
    if len(outputs) > 2 and targets in (outputs[:1], (outputs[0], outputs[-1])):
        return "For one target per sequence, reduce the outputs over time first: outputs.mean(axis=1), or over_time."
    if len(outputs) > 1 and targets[:-1] == outputs[:-1]:
        return f"The model gives {outputs[-1]} numbers per example, and the targets have {targets[-1]}."
    return "The first axis counts the examples, and shapes are never broadcast."


def _out_of_range(name: str, contract: _Contract, labels: bool, count: int, targets: Any, outside: Any) -> DataError:
    at = tuple(int(i) for i in np.argwhere(outside)[0])
    where = f"{targets[at]} in row {at[0]}" + (f" (at {at})" if len(at) > 1 else "")
    if not labels:
        expected = f"numbers in [0, {contract.high:g}]" if contract.high < float("inf") else "probabilities"
        return DataError(f"{name} got target {where}, expected {expected}.", "Use mse for targets of any size.")
    message = f"{name} got label {where}, outside the classes 0..{count - 1}."
    if targets.min() == 1 and targets.max() == count:
        return DataError(message, "The labels count from 1: subtract 1.")
    more = f", or give the model {targets.max() + 1} outputs" if targets.min() >= 0 else ""
    return DataError(message, f"Number the classes 0..{count - 1}{more}; to leave examples out, write your own loss.")


# ---------------------------------------------------------------------------- the scores


def _cross_entropies(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    if is_labels(outputs, targets):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return optax.losses.softmax_cross_entropy(outputs, as_targets(outputs, targets))


def _per_example(elements: jax.Array) -> jax.Array:
    return elements.reshape(elements.shape[0], -1).sum(axis=1)


@_takes(classes=2, low=0)
def cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), mean over the batch.

    >>> round(float(cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    2.3026
    """
    return jnp.mean(_cross_entropies(outputs, targets))


@_takes(classes=2, low=0)
def sum_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Softmax cross entropy of logits (natural log), sum over the batch.

    >>> round(float(sum_cross_entropy(jnp.zeros((4, 10)), jnp.zeros(4, int))), 4)
    9.2103
    """
    return jnp.sum(_cross_entropies(outputs, targets))


@_takes(low=0, high=1)
def binary_cross_entropy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Sigmoid cross entropy of logits, mean over batch and outputs.

    >>> round(float(binary_cross_entropy(jnp.zeros((4, 1)), jnp.ones((4, 1)))), 4)
    0.6931
    """
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(outputs, as_targets(outputs, targets)))


@_takes()
def mse(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Squared error ``(outputs - targets)^2``, mean over batch and outputs.

    >>> float(mse(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(optax.losses.squared_error(outputs, as_targets(outputs, targets)))


@_takes()
def squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs, mean over the batch.

    >>> float(squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    return jnp.mean(_per_example(optax.losses.l2_loss(outputs, as_targets(outputs, targets))))


@_takes()
def sum_squared_error(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Half squared distance ``1/2 |outputs - targets|^2``, summed over outputs and batch.

    >>> float(sum_squared_error(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    4.0
    """
    return jnp.sum(optax.losses.l2_loss(outputs, as_targets(outputs, targets)))


@_takes()
def mae(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Absolute error, mean over batch and outputs.

    >>> float(mae(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    2.0
    """
    return jnp.mean(jnp.abs(outputs - as_targets(outputs, targets)))


@_takes()
def huber(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Huber loss with threshold 1, mean over batch and outputs.

    >>> float(huber(2 * jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.5
    """
    return jnp.mean(optax.losses.huber_loss(outputs, as_targets(outputs, targets)))


@_takes(classes=2, low=-float("inf"))
def accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Fraction of the batch whose largest output is the target's class, 0 to 1.

    >>> float(accuracy(jnp.eye(4), jnp.array([0, 1, 0, 0])))
    0.5
    """
    return _share(jnp.argmax(outputs, axis=-1) == _labels(outputs, targets), outputs)


@_takes(classes=5, low=-float("inf"))
def top_5_accuracy(outputs: jax.Array, targets: jax.Array) -> Scalar:
    """Fraction of the batch whose class is among the five largest outputs, 0 to 1.

    >>> float(top_5_accuracy(-jnp.arange(10.0)[None], jnp.array([4])))
    1.0
    """
    best = jax.lax.top_k(outputs, 5)[1]
    return _share(jnp.any(best == _labels(outputs, targets)[..., None], axis=-1), outputs)


@_takes(low=0, high=1)
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


def loss_function(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss of a given name; a callable is returned unchanged.

    Raises:
        UnknownName: no loss has that name.
        UsageError: neither a name nor a callable.

    >>> loss_function("cross-entropy") is cross_entropy
    True
    """
    return _resolve("loss", LOSSES, loss)


def accuracy_function(accuracy: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return the accuracy of a given name; a callable or None is returned unchanged.

    Raises:
        UnknownName: no accuracy has that name.
        UsageError: neither None, a name nor a callable.

    >>> accuracy_function(None) is None
    True
    """
    return None if accuracy is None else _resolve("accuracy", ACCURACIES, accuracy)


def score_function(score: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss or accuracy of a given name; a callable is returned unchanged.

    Raises:
        UnknownName: no loss or accuracy has that name.
        UsageError: neither a name nor a callable.

    >>> score_function("mse") is mse, score_function("accuracy") is accuracy
    (True, True)
    """
    return _resolve("loss or accuracy", LOSSES | ACCURACIES, score)


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

"""The outputs and targets that a score takes, and errors that say how others do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import Scalar, Shape, shape_text
from neurai_core.errors import DataError

BatchScore = Callable[[jax.Array, jax.Array], Scalar]


class Contract(NamedTuple):
    """The outputs and targets that a score takes.

    Attributes:
        classes: minimum number of outputs on the last axis; 0 if outputs need not be classes.
        low: minimum of targets that are not labels; None for no bound.
        high: maximum of these; None for no bound.
    """

    classes: int = 0
    low: float | None = None
    high: float = float("inf")


def takes(classes: int = 0, low: float | None = None, high: float = float("inf")) -> Callable[[BatchScore], BatchScore]:
    """Make a score reject invalid arguments, and return NaN if a traced value is out of range."""
    contract = Contract(classes, low, high)

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

    >>> from neurai_core.losses import mse
    >>> check_targets(mse, jnp.zeros((3, 1)), jnp.zeros(3))
    Traceback (most recent call last):
        ...
    neurai_core.errors.DataError: mse got targets float32[3] for outputs float32[3,1], expected numbers of shape (3, 1).
    Use targets[..., None].
    """
    contract = getattr(score, "contract", None)
    if isinstance(contract, Contract):
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
    if _check("as_targets", Contract(), outputs, targets):
        return jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return jnp.asarray(targets, outputs.dtype)


def _check(name: str, contract: Contract, outputs: Any, targets: Any) -> bool:
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


def _outside(contract: Contract, labels: bool, outputs: Any, targets: Any) -> Any:
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
def _check_forms(name: str, contract: Contract, outputs: _Form, targets: _Form) -> bool:
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


def _check_axes(name: str, contract: Contract, outputs: _Form) -> None:
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


def _misfit(name: str, contract: Contract, outputs: _Form, targets: _Form) -> DataError:
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


def _out_of_range(name: str, contract: Contract, labels: bool, count: int, targets: Any, outside: Any) -> DataError:
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

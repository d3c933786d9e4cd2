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

from neurai_core.losses.contracts import BatchScore, as_targets, check_targets, is_labels
from neurai_core.losses.names import accuracy_function, loss_function, score_function
from neurai_core.losses.scores import (
    ACCURACIES,
    LOSSES,
    Score,
    accuracy,
    binary_accuracy,
    binary_cross_entropy,
    cross_entropy,
    huber,
    mae,
    mse,
    squared_error,
    sum_cross_entropy,
    sum_squared_error,
    top_5_accuracy,
)

__all__ = [  # noqa: RUF022 - in the order of the page
    "BatchScore",
    "Score",
    "check_targets",
    "is_labels",
    "as_targets",
    "cross_entropy",
    "sum_cross_entropy",
    "binary_cross_entropy",
    "mse",
    "squared_error",
    "sum_squared_error",
    "mae",
    "huber",
    "accuracy",
    "top_5_accuracy",
    "binary_accuracy",
    "LOSSES",
    "ACCURACIES",
    "loss_function",
    "accuracy_function",
    "score_function",
]

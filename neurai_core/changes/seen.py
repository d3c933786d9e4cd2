"""What is seen of a program, or of an equation with a program inside, at a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.tree_util import Partial

Predictions: TypeAlias = dict[str, tuple[Any, ...]]


class Seen(NamedTuple):
    """A program at a point.

    Attributes:
        outputs: the values of its outputs.
        at: the named values so far.
        predictions: what it computes for named values, in order.
        carry: ``(changes of the inputs, {name: change}) -> (changes of the outputs, of the predictions)``.
    """

    outputs: Sequence[Any]
    at: Mapping[str, Any]
    predictions: Predictions
    carry: Partial


def join(predictions: Predictions, more: Mapping[str, Sequence[Any]]) -> None:
    """Append predictions to those that are there."""
    for name, ones in more.items():
        predictions[name] = predictions.get(name, ()) + tuple(ones)

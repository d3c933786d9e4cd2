"""The expansion of a program, or of an equation with a program inside, around a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.tree_util import Partial

Predictions: TypeAlias = dict[str, tuple[Any, ...]]


class Seen(NamedTuple):
    """A program expanded around a point.

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
    """Append predictions to the existing ones."""
    for name, ones in more.items():
        predictions[name] = predictions.get(name, ()) + tuple(ones)

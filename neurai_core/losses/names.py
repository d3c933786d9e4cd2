"""Losses and accuracies by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurai_core.errors import UnknownName, UsageError
from neurai_core.losses.scores import ACCURACIES, LOSSES, Score
from neurai_core.naming import canonical, did_you_mean


def loss_function(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss of a given name; a callable is returned unchanged.

    Raises:
        UnknownName: no loss has that name.
        UsageError: neither a name nor a callable.

    >>> from neurai_core.losses import cross_entropy
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

    >>> from neurai_core.losses import accuracy, mse
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

"""Names of classes for labels that have none, and a warning where a class has no example."""

from __future__ import annotations

import warnings

import numpy as np

from neurai_core.data.dataset import Dataset
from neurai_core.data.rows import Array
from neurai_core.errors import DataError


def numbered_classes(name: str, *labels: Array, first: int | None = None) -> tuple[str, ...]:
    """The names "0", "1", ... up to the largest of integer labels, for data that do not name their classes.

    Args:
        name: the data set's name, or its file, for errors.
        *labels: integer labels of every part, (N,) each.
        first: the label of the first class, to be subtracted from the labels; None expects 0 with an example.

    Raises:
        DataError: there are more classes than labels, or the smallest label is not that of the first class.

    Example:
        >>> import numpy as np
        >>> from neurai_core.data import numbered_classes
        >>> numbered_classes("mine", np.array([0, 2, 1]), np.array([1]))
        ('0', '1', '2')
    """
    largest = max((int(part.max()) for part in labels if part.size), default=-1)
    smallest = min((int(part.min()) for part in labels if part.size), default=0)
    rows = sum(part.size for part in labels)
    if max(largest, -smallest) >= max(rows, 1):
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest} in only {rows} rows, "
            "expected the numbers 0, 1, ... of classes.",
            "Renumber them with np.unique(labels, return_inverse=True).",
        )
    _check_first(name, smallest, largest, first)
    return tuple(str(label) for label in range(first or 0, largest + 1))


def warn_of_empty_classes(data: Dataset, source: str) -> Dataset:
    """Return the data, with a warning if classes have no training example, for instance a gap in the numbers.

    Args:
        data: a checked data set with labels, or of a regression.
        source: where the labels came from, for the warning.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> data = Dataset("mine", x, y, x, y, classes=("0", "1"))
        >>> warn_of_empty_classes(data, "mine.npz") is data
        True
    """
    classes = data.classes or ()
    empty = [name for label, name in enumerate(classes) if label not in set(np.unique(data.y_train).tolist())]
    if empty:
        few = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        warnings.warn(
            f"No training example of {source} has label {few}: the model gets an output for it that is never right.",
            stacklevel=2,
        )
    return data


def _check_first(name: str, smallest: int, largest: int, first: int | None) -> None:
    if first is None and smallest > 0:
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest}, expected classes that count from 0.",
            f"Subtract {smallest}, as idx and npz do with first={smallest} (--set data.first={smallest}); if class 0 "
            "merely has no example here, say first=0.",
        )
    if first is not None and smallest < first:
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest}, expected {first} or more, the first class.",
            f"Set first={max(smallest, 0)}.",
        )

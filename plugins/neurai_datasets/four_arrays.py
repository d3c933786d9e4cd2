"""Four arrays in files, x_train, y_train, x_test and y_test, as inputs and targets of a data set."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import numbered_classes
from neurai_core.errors import DataError, OutputError

NAMES = ("x_train", "y_train", "x_test", "y_test")
INPUTS = ("x_train", "x_test")  # of data without targets

Array = NDArray[Any]


def as_float(array: Array, name: str, path: Path) -> Array:
    """An array in memory as float32, its numbers as they are.

    Raises:
        DataError: it does not hold numbers.
    """
    check_numbers(array, name, path)
    with np.errstate(over="ignore"):  # values that float32 cannot hold become inf, and the check names their row
        return array.astype(np.float32)


def check_numbers(array: Array, name: str, path: Path) -> None:
    """Raise DataError for an array that holds neither floating-point numbers nor integers."""
    if array.dtype.kind not in "fiu":
        raise DataError(
            f"{name} in {path} has dtype {array.dtype}, expected floating point or integers.",
            "Convert it to float32.",
        )


def as_labels(array: Array) -> Array:
    """Integers as int32; as they are if it cannot hold them, so that a check can name a label outside the classes.

    >>> as_labels(np.array([0, 2])).dtype, as_labels(np.array([0, 2**32])).dtype
    (dtype('int32'), dtype('int64'))
    """
    held = np.iinfo(np.int32)
    fits = not array.size or (held.min <= array.min() and array.max() <= held.max)
    return array.astype(np.int32) if fits else np.asarray(array)


def targets_of(train: Array, test: Array, path: Path, first: int | None) -> tuple[Array, Array, tuple[str, ...] | None]:
    """Targets for training and test, in memory, with the names of their classes.

    Integers are labels, which become int32 and count from 0; floating-point numbers are the targets of a regression.

    Args:
        train: targets for training.
        test: targets for testing.
        path: where they come from, for errors.
        first: the label of the first class; None for 0, which must then have an example.

    Raises:
        DataError: they are of different kinds, or are no labels that count from `first`.
    """
    kinds = train.dtype.kind + test.dtype.kind
    if kinds == "ff":
        return as_float(train, "y_train", path), as_float(test, "y_test", path), None
    if set(kinds) <= set("iu"):
        classes = numbered_classes(str(path), train, test, first=first)  # first: it bounds what int32 must hold
        return train.astype(np.int32) - (first or 0), test.astype(np.int32) - (first or 0), classes
    raise DataError(
        f"y_train and y_test in {path} have dtypes {train.dtype} and {test.dtype}, "
        "expected integer labels in both, or floating-point targets in both.",
        "Use y.astype('int32') for labels, y.astype('float32') for a regression.",
    )


def unpack(packed: IO[bytes], path: Path) -> Path:
    """Copy what is read from an archive to a file, part by part.

    Raises:
        OutputError: the disk is full.
    """
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", "Make room, or choose another disk."
        ) from error
    return path

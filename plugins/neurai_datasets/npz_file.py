"""One numpy archive with the arrays x_train, y_train, x_test and y_test as a data set; the targets may be missing."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check, numbered_classes, warn_of_empty_classes
from neurai_core.errors import DataError
from neurai_datasets import NpzConfig

NAMES = ("x_train", "y_train", "x_test", "y_test")
INPUTS = ("x_train", "x_test")  # of data without targets
HOW = "Write the file with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."

Array = NDArray[Any]


def build(config: NpzConfig, **context: Any) -> Dataset:
    """The data set in the file `config.path`: inputs as they are, as float32.

    Integer targets are labels of the classes `config.first`, or 0, to the largest; floating-point targets are those
    of a regression, kept as float32. An archive without both has no targets.

    Raises:
        DataError: the file is missing or not an archive, an array is missing or not numeric, or the data are invalid.
    """
    path = Path(os.path.expanduser(config.path))
    arrays = _read(path)
    x_train, x_test = (_as_float(arrays[name], name, path) for name in ("x_train", "x_test"))
    if "y_train" not in arrays:
        return check(Dataset("npz", x_train, None, x_test, None))
    y_train, y_test, classes = _targets(arrays["y_train"], arrays["y_test"], path, config.first)
    data = check(Dataset("npz", x_train, y_train, x_test, y_test, classes=classes))
    return warn_of_empty_classes(data, str(path))


def _read(path: Path) -> dict[str, Array]:
    try:
        file = path.open("rb")  # opened here, because np.load leaves a broken archive open
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", "Give the path of an .npz file.") from error
    with file:
        return _members(_archive(file, path), path)


def _archive(file: BinaryIO, path: Path) -> np.lib.npyio.NpzFile:
    try:
        archive = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz archive.", HOW) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds one bare array, expected an archive of {', '.join(NAMES)}.", HOW)
    return archive


def _members(archive: np.lib.npyio.NpzFile, path: Path) -> dict[str, Array]:
    names = NAMES if {"y_train", "y_test"} & {*archive.files} else INPUTS
    missing = [name for name in names if name not in archive.files]
    if missing:
        held = ", ".join(archive.files) or "nothing"
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {held}.", HOW)
    return {name: _member(archive, name, path) for name in names}


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        return np.asarray(archive[name])
    except ValueError as error:  # raised by numpy for an array of objects, whose pickle could run arbitrary code
        raise DataError(f"{name} in {path} is not a plain array: {error}.", "Store numbers, not objects.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError) as error:
        raise DataError(f"{name} in {path} is damaged: {error}.", "Write or fetch the file again.") from error


def _as_float(array: Array, name: str, path: Path) -> Array:
    if array.dtype.kind not in "fiu":
        raise DataError(
            f"{name} in {path} has dtype {array.dtype}, expected floating point or integers.",
            "Convert it to float32.",
        )
    with np.errstate(over="ignore"):  # values that float32 cannot hold become inf, and the check names their row
        return array.astype(np.float32)


def _targets(train: Array, test: Array, path: Path, first: int | None) -> tuple[Array, Array, tuple[str, ...] | None]:
    kinds = train.dtype.kind + test.dtype.kind
    if kinds == "ff":
        return _as_float(train, "y_train", path), _as_float(test, "y_test", path), None
    if set(kinds) <= set("iu"):
        classes = numbered_classes(str(path), train, test, first=first)  # first: it bounds what int32 must hold
        return train.astype(np.int32) - (first or 0), test.astype(np.int32) - (first or 0), classes
    raise DataError(
        f"y_train and y_test in {path} have dtypes {train.dtype} and {test.dtype}, "
        "expected integer labels in both, or floating-point targets in both.",
        "Use y.astype('int32') for labels, y.astype('float32') for a regression.",
    )

"""One numpy archive with the arrays x_train, y_train, x_test and y_test as a data set; the targets may be missing."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check, warn_of_empty_classes
from neurai_core.errors import DataError, OutputError
from neurai_core.stored import StoredArray, is_stored
from neurai_datasets import NpzConfig
from neurai_datasets.four_arrays import INPUTS, NAMES, as_float, check_numbers, targets_of, unpack

HOW = "Write the file with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."

Array = NDArray[Any]


def build(config: NpzConfig, **context: Any) -> Dataset:
    """The data set in the file `config.path`: inputs as they are, as float32.

    Integer targets are labels of the classes `config.first`, or 0, to the largest; floating-point targets are those
    of a regression, kept as float32. An archive without both has no targets. With `unpack_into`, a folder,
    arrays are unpacked into it and mapped.

    Raises:
        DataError: the file is missing or not an archive, an array is missing or not numeric, or the data are invalid.
    """
    path = Path(os.path.expanduser(config.path))
    arrays = _read(path, context.get("unpack_into"))
    x_train, x_test = (_inputs(arrays[name], name, path) for name in INPUTS)
    if "y_train" not in arrays:
        return check(Dataset("npz", x_train, None, x_test, None))
    y_train, y_test, classes = targets_of(arrays["y_train"], arrays["y_test"], path, config.first)
    data = check(Dataset("npz", x_train, y_train, x_test, y_test, classes=classes))
    return warn_of_empty_classes(data, str(path))


def _inputs(array: Array, name: str, path: Path) -> Any:
    if not is_stored(array):
        return as_float(array, name, path)
    check_numbers(array, name, path)
    return StoredArray(array)


def _read(path: Path, folder: Path | None) -> dict[str, Array]:
    try:
        file = path.open("rb")  # opened here, because np.load leaves a broken archive open
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.", "Give the path of an .npz file.") from error
    with file:
        return _members(_archive(file, path), path, folder)


def _archive(file: BinaryIO, path: Path) -> np.lib.npyio.NpzFile:
    try:
        archive = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz archive.", HOW) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds one bare array, expected an archive of {', '.join(NAMES)}.", HOW)
    return archive


def _members(archive: np.lib.npyio.NpzFile, path: Path, folder: Path | None) -> dict[str, Array]:
    names = NAMES if {"y_train", "y_test"} & {*archive.files} else INPUTS
    missing = [name for name in names if name not in archive.files]
    if missing:
        held = ", ".join(archive.files) or "nothing"
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {held}.", HOW)
    return {name: _member(archive, name, path, folder) for name in names}


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path, folder: Path | None) -> Array:
    """An array of the archive, in memory, or, with a folder, unpacked into it and mapped."""
    try:
        return np.asarray(archive[name]) if folder is None else _unpacked(archive, name, folder)
    except OutputError:
        raise
    except ValueError as error:  # raised by numpy for an array of objects, whose pickle could run arbitrary code
        raise DataError(f"{name} in {path} is not a plain array: {error}.", "Store numbers, not objects.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError) as error:
        raise DataError(f"{name} in {path} is damaged: {error}.", "Write or fetch the file again.") from error


def _unpacked(archive: np.lib.npyio.NpzFile, name: str, folder: Path) -> Array:
    with cast(zipfile.ZipFile, archive.zip).open(f"{name}.npy") as packed:
        path = unpack(packed, folder / f"{name}.npy")
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array if array.flags.c_contiguous else np.array(array, order="C")

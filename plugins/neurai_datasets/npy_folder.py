"""A folder with x_train.npy, y_train.npy, x_test.npy and y_test.npy, whose rows are read while training needs them.

`dataset.json` beside them, which ``neurai data pack`` writes, may name the classes and the license, and say by what
inputs that are bytes are divided: ``{"classes": ["flat", "upright"], "license": "CC0-1.0", "unit": 255}``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, warn_of_empty_classes
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray
from neurai_datasets import NpyConfig
from neurai_datasets.four_arrays import INPUTS, NAMES, as_labels, check_numbers, targets_of

FACTS = "dataset.json"
HOW = "Write the files with np.save, or with neurai data pack."
UNIT = 255.0

Array = NDArray[Any]


class Facts(NamedTuple):
    """What the arrays do not tell."""

    classes: tuple[str, ...] | None = None
    license: str = ""
    unit: float = UNIT


def build(config: NpyConfig, **context: Any) -> Dataset:
    """The data set in the folder `config.path`; its values are checked by whoever trains on it.

    Inputs are mapped: bytes become float32 divided by 255, other floating-point numbers float32, and integers, the
    codes of characters for instance, stay as they are. Integer targets are labels, read into memory, floating-point
    targets those of a regression. A folder without both has no targets.

    Raises:
        DataError: the folder or a file is missing, damaged, or holds what cannot be mapped or is no number.
    """
    folder = Path(os.path.expanduser(config.path))
    arrays, facts = _arrays(folder), _facts(folder)
    unit = facts.unit if config.unit is None else config.unit
    x_train, x_test = (_inputs(arrays[name], name, folder, unit) for name in INPUTS)
    if "y_train" not in arrays:
        return Dataset("npy", x_train, None, x_test, None, license=facts.license)
    y_train, y_test, classes = _targets(arrays["y_train"], arrays["y_test"], folder, facts, config.first)
    data = Dataset("npy", x_train, y_train, x_test, y_test, classes=classes, license=facts.license)
    return data if facts.classes else warn_of_empty_classes(data, str(folder))


def _arrays(folder: Path) -> dict[str, Array]:
    if not os.path.isdir(folder):
        what = "is a file" if os.path.isfile(folder) else "does not exist"
        raise DataError(f"{folder} {what}, expected a folder with {', '.join(_file(name) for name in NAMES)}.", HOW)
    found = [name for name in NAMES if os.path.isfile(folder / _file(name))]
    needed = NAMES if {"y_train", "y_test"} & {*found} else INPUTS
    missing = [_file(name) for name in needed if name not in found]
    if missing:
        held = ", ".join(map(_file, found)) or "none of the four files"
        raise DataError(f"{folder} lacks {', '.join(missing)}; it holds {held}.", HOW)
    return {name: _mapped(folder / _file(name)) for name in needed}


def _file(name: str) -> str:
    return f"{name}.npy"


def _mapped(path: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", HOW) from error
    except (ValueError, EOFError) as error:  # damaged, cut off, empty, or of objects
        raise DataError(f"{path} cannot be mapped: {str(error).splitlines()[0]}", HOW) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an archive, expected one array.", "Use --data npz:FILE for an archive.")
    if array.ndim > 1 and not array.flags.c_contiguous:
        raise DataError(
            f"{path} is stored column by column, so that a row cannot be read at once.",
            "Write it with np.save(path, np.ascontiguousarray(x)).",
        )
    return array


def _facts(folder: Path) -> Facts:
    path = folder / FACTS
    if not os.path.isfile(path):
        return Facts()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        classes = found.get("classes")
        if classes is not None and not isinstance(classes, list):
            raise TypeError(f"classes is {classes!r}, expected a list of names")
        unit = float(found.get("unit") or UNIT)
        return Facts(None if classes is None else tuple(map(str, classes)), str(found.get("license", "")), unit)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.",
            'It holds {"classes": [...], "license": "...", "unit": 255}, or is left out.',
        ) from error


def _inputs(array: Array, name: str, folder: Path, unit: float) -> Any:
    check_numbers(array, name, folder)
    if array.dtype == np.uint8:
        return StoredArray(array, unit)
    if array.dtype.kind in "iu" and not array.dtype.isnative:
        raise DataError(
            f"{name} in {folder} has dtype {array.dtype.str}, of another machine.", "Use x.astype('int32')."
        )
    return array if array.dtype.kind in "iu" or array.dtype == np.float32 else StoredArray(array)


def _targets(
    train: Array, test: Array, folder: Path, facts: Facts, first: int | None
) -> tuple[Array, Array, tuple[str, ...] | None]:
    labels = set(train.dtype.kind + test.dtype.kind) <= set("iu")
    if facts.classes is not None and labels:
        if first is not None:
            raise DataError(f"{folder / FACTS} names the classes, and first={first} is given.", "Leave out first.")
        return as_labels(train), as_labels(test), facts.classes
    if train.dtype == test.dtype == np.float32:
        return train, test, facts.classes
    y_train, y_test, classes = targets_of(train, test, folder, first)
    return y_train, y_test, classes or facts.classes

"""Data sets as folders of numpy files, which training reads by rows: ``neurai data pack``."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurai_core.batched import BatchedData
from neurai_core.data import Dataset, check
from neurai_core.errors import DataError, OutputError
from neurai_core.registry import REGISTRY
from neurai_core.stored import StoredArray, parts_of
from neurai_core.training.settings import Chosen

NAMES = ("x_train", "y_train", "x_test", "y_test")
FACTS = "dataset.json"


class Packed(NamedTuple):
    """What was written.

    Attributes:
        folder: where.
        train: number of rows to train on.
        test: number of rows to test on.
        bytes: of the arrays together.
        sha256: the data hash, which is that of the source.
    """

    folder: Path
    train: int
    test: int
    bytes: int
    sha256: str


def pack(chosen: Chosen, folder: Path) -> Packed:
    """Write a data set as four numpy files, for ``--data npy:FOLDER``, part by part.

    The folder appears when all of it is written; until then, the files are in a hidden folder beside it.

    Args:
        chosen: settings that name the data set.
        folder: must not exist.

    Raises:
        OutputError: the folder exists, or cannot be written, for instance because the disk is full.
        DataError: the data are invalid.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists already.", "Give the name of a new folder.")
    with _new(folder) as made, tempfile.TemporaryDirectory(prefix="unpacked-", dir=made) as unpacked:
        name, settings = chosen.settings.data, chosen.parts["data"]
        data = REGISTRY.create("dataset", name, {"unpack_into": Path(unpacked)}, settings, recorded={})
        if isinstance(data, BatchedData):
            raise DataError(f"{name} comes in batches, which need no packing.", f"Train on it: --data {name}.")
        return _write(check(data), made, folder)


def _write(data: Dataset, made: Path, folder: Path) -> Packed:
    arrays = {name: _plain(getattr(data, name), data) for name in NAMES if data.labeled or name.startswith("x")}
    needed, free = sum(array.nbytes for array in arrays.values()), shutil.disk_usage(made).free
    if needed > free:
        raise OutputError(f"{folder} needs {needed} bytes, and {free} are free.", "Make room, or choose another disk.")
    for name, array in arrays.items():
        _write_array(made / f"{name}.npy", array)
    facts = {"classes": data.classes, "license": data.license, "unit": _unit(data)}
    (made / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Packed(folder, len(data.x_train), len(data.x_test), needed, data.sha256)


def _unit(data: Dataset) -> float | None:
    """By what all inputs are divided that are stored as bytes; None if they are no bytes."""
    units = {
        x.unit if isinstance(x, StoredArray) and x.table is not None else None for x in (data.x_train, data.x_test)
    }
    return units.pop() if len(units) == 1 else None


def _plain(array: Any, data: Dataset) -> Any:
    """An array as it is written: bytes as bytes, other numbers as training takes them."""
    return array.stored if isinstance(array, StoredArray) and _unit(data) is not None else array


def _write_array(path: Path, array: Any) -> None:
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": tuple(array.shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts_of(array):
            file.write(np.ascontiguousarray(part).data if math.prod(array.shape) else b"")


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """A folder to write to, which gets its name at the end, or is removed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield made
            made.chmod(0o755)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from error

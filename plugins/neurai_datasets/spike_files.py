"""A folder of spike files as a data set: one .npz per example with the arrays times and units.

```
PATH/train/CLASS/*.npz      times: (K,) in [0, window)      units: (K,) integers 0, 1, ...
PATH/test/CLASS/*.npz
```
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_core.errors import DataError
from neurai_datasets.spiking_specs import SpikeFilesConfig

HOW = "Write an example with np.savez(path, times=..., units=...), both of shape (K,)."
TREE = "Lay it out as train/CLASS/*.npz and test/CLASS/*.npz."

_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    MemoryError,
    NotImplementedError,  # raised for a zip file whose method or version is unknown, for instance after a bit flip
    zipfile.BadZipFile,
    zlib.error,
)

Array = NDArray[Any]
Events = tuple[Array, Array]


def build(config: SpikeFilesConfig, **context: Any) -> Dataset:
    """Spike counts as float32 of shape (N, T, units), files and classes in the order of their names.

    Raises:
        DataError: a folder or file is missing or damaged, or holds times outside the window or invalid unit
            numbers.
    """
    folder = Path(os.path.expanduser(config.path))
    classes = _classes(folder)
    train = _part(folder / "train", classes, config)
    units = config.units or 1 + max((int(units.max()) for _, (_, units), _ in train if units.size), default=0)
    test = _part(folder / "test", classes, config)
    (x_train, y_train), (x_test, y_test) = (_arrays(part, units, config) for part in (train, test))
    return check(Dataset("spike-files", x_train, y_train, x_test, y_test, classes=classes))


def _classes(folder: Path) -> tuple[str, ...]:
    if not os.path.isdir(folder):  # unlike the path's own method, does not fail on names that are too long
        raise DataError(f"{folder} is not a folder.", TREE)
    names = sorted(path.name for path in (folder / "train").glob("*") if path.is_dir())
    if not names:
        raise DataError(f"{folder / 'train'} holds no folder, expected one for each class.", TREE)
    strange = sorted(path.name for path in (folder / "test").glob("*") if path.is_dir() and path.name not in names)
    if strange:
        raise DataError(f"{folder / 'test'} has the class {strange[0]!r}, which is missing from train.", TREE)
    return tuple(names)


def _part(folder: Path, classes: tuple[str, ...], config: SpikeFilesConfig) -> list[tuple[Path, Events, int]]:
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).glob("*.npz"))]
    if not files:
        raise DataError(f"{folder} holds no spike files.", TREE)
    if folder.name == "train":
        _check_no_class_empty(folder, classes, {label for _, label in files})
    return [(path, _checked(path, _read(path), config), label) for path, label in files]


def _check_no_class_empty(folder: Path, classes: tuple[str, ...], found: set[int]) -> None:
    empty = [name for label, name in enumerate(classes) if label not in found]
    if empty:
        raise DataError(
            f"{folder / empty[0]} holds no spike files, expected examples of every class to train on.",
            "Put them there, or remove the folder: each is a class.",
        )


def _read(path: Path) -> Events:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive["times"]), np.asarray(archive["units"])
    except KeyError as error:
        raise DataError(f"{path} lacks an array: {error.args[0]}.", HOW) from error
    except _DAMAGED as error:
        raise DataError(f"{path} is not a spike file: {error}.", HOW) from error


def _checked(path: Path, events: Events, config: SpikeFilesConfig) -> Events:
    times, units = events
    if times.ndim != 1 or times.shape != units.shape:
        raise DataError(f"{path} has times {times.shape} and units {units.shape}, expected two of shape (K,).", HOW)
    if times.dtype.kind not in "fiu" or units.dtype.kind not in "iu":
        raise DataError(
            f"{path} has times of {times.dtype} and units of {units.dtype}, expected numbers and integers.", HOW
        )
    times = times.astype(np.float64)  # 16 bits can neither distinguish 1000 steps nor hold a window of 100000
    refuse_times(str(path), times, config.window)
    refuse_spikes(str(path), "unit", units, units < 0, "from 0 up", "units")
    if config.units is not None:
        refuse_spikes(str(path), "unit", units, units >= config.units, f"in 0..{config.units - 1}", "units")
    return times, units


def refuse_times(where: str, times: Array, window: float) -> None:
    """Raise DataError for the first time that lies outside the window."""
    outside = ~((times >= 0) & (times < window))
    refuse_spikes(where, "time", times, outside, f"in [0, {window})", "window")


def refuse_spikes(where: str, what: str, values: Array, bad: Array, expected: str, setting: str = "") -> None:
    """Raise DataError for the first spike that is bad."""
    if bad.any():
        spike = int(np.argmax(bad))
        raise DataError(
            f"{where} has a spike at {what} {values[spike]} (spike {spike}), expected {expected}.",
            f"{int(bad.sum())} of its {len(values)} spikes are not"
            + (f"; the setting {setting!r} says what is expected." if setting else "."),
        )


def count_spikes(row: Array, times: Array, units: Array, window: float) -> None:
    """Add spikes to the counts (T, units) of one example; times are float64 in [0, window)."""
    steps = len(row)
    np.add.at(row, (np.minimum((times / window * steps).astype(int), steps - 1), units.astype(int)), 1)


def _arrays(part: list[tuple[Path, Events, int]], units: int, config: SpikeFilesConfig) -> tuple[Array, Array]:
    x = np.zeros((len(part), config.steps, units), np.float32)
    for row, (path, (times, which), _) in enumerate(part):
        expected = f"in 0..{units - 1}, as in the training files"
        refuse_spikes(str(path), "unit", which, which >= units, expected, "units")
        count_spikes(x[row], times, which, config.window)
    return x, np.array([label for *_, label in part], np.int32)

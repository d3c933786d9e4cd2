"""Data sets of tonic by name: events of cameras and other sensors, binned to time steps when their rows are read."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray
from neurai_datasets.four_arrays import as_labels
from neurai_datasets.spiking_specs import TonicConfig

FOLDER_VARIABLE = "NEURAI_DATA"
MOST = 255  # events of a sensor element in a step

Array = NDArray[Any]


def build(config: TonicConfig, **context: Any) -> Dataset:
    """Event counts (N, T, units), read from tonic's files row by row, with labels from tonic.

    Raises:
        DataError: tonic has no such data set of labeled events, its files are not found, or they are damaged.
    """
    parts = [_part(config, train) for train in (True, False)]
    (x_train, y_train, classes), (x_test, y_test, _) = parts
    names = classes or tuple(map(str, range(1 + int(max(y_train.max(), y_test.max())))))
    return check(Dataset(f"tonic-{config.which}", x_train, y_train, x_test, y_test, classes=names))


@dataclass(frozen=True, eq=False)
class EventRows:
    """Event counts of many examples, (N, T, units), as unsigned bytes; those of a row are counted when it is read.

    Attributes:
        source: tonic's data set: ``source[i]`` is a pair of events and a label.
        order: which of its examples a row is, (N,).
        sensor: width, height and number of polarities.
        steps: number of time steps.
        window: microseconds from 0 on; None for those from the first to the last event.
        row_shape: shape of an example.
    """

    source: Any
    order: Array
    sensor: tuple[int, int, int]
    steps: int
    window: float | None
    row_shape: tuple[int, ...]

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, (N, ...)."""
        return (len(self.order), *self.row_shape)

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of its entries."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Array:
        chosen = self.order[index]
        if np.ndim(chosen) == 0:
            return self._row(int(chosen))
        rows = [self._row(int(one)) for one in chosen]
        return np.stack(rows) if rows else np.zeros((0, *self.row_shape), self.dtype)

    def reshape(self, *shape: int) -> EventRows:
        """The same counts in another shape."""
        if shape[0] != len(self) or math.prod(shape[1:]) != math.prod(self.row_shape):
            raise ValueError(f"{self.shape} cannot become {shape}")
        return replace(self, row_shape=shape[1:])

    @cached_property
    def digest(self) -> str:
        """A hash of settings, labels, and paths and sizes of the files; empty if tonic does not name these."""
        files = _files(self.source)
        if files is None:
            return ""
        place = str(getattr(self.source, "location_on_system", ""))
        told = [(os.path.relpath(files[i], place), os.path.getsize(files[i])) for i in self.order]
        text = repr((told, self.sensor, self.steps, self.window))
        return hashlib.sha256(text.encode()).hexdigest()

    def _row(self, example: int) -> Array:
        where = f"example {example} of tonic's {type(self.source).__name__}"
        try:
            events = self.source[example][0]
        except Exception as error:  # whatever its readers raise on a damaged or missing file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(f"{where} cannot be read: {reason}.", "Delete its files and fetch them again.") from error
        return counted(events, self.sensor, self.steps, self.window, where).reshape(self.row_shape)


def counted(
    events: Array, sensor: Sequence[int], steps: int, window: float | None, where: str = "the example"
) -> Array:
    """Events as counts (T, units), where units are ordered by polarity, then y, then x; counts end at 255.

    Args:
        events: structured array with fields t in microseconds, x, and where the sensor has them y and p.
        sensor: width, height and number of polarities.
        steps: number of time steps.
        window: as in `EventRows`.
        where: name of the example in errors.

    Raises:
        DataError: an event lies outside the sensor or before 0.

    >>> events = np.array([(0, 1, 0), (9, 1, 1), (9, 0, 1)], [("t", int), ("x", int), ("p", int)])
    >>> counted(events, (2, 1, 2), steps=2, window=None).tolist()
    [[0, 1, 0, 0], [0, 0, 1, 1]]
    """
    width, height, polarities = sensor
    names = events.dtype.names or ()
    x, y, p = (
        np.asarray(events[name], np.int64) if name in names and most > 1 else np.zeros(len(events), np.int64)
        for name, most in (("x", width), ("y", height), ("p", polarities))
    )
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p >= polarities)
    t = np.asarray(events["t"], np.float64)
    if outside.any() or (t < 0).any():
        event = int(np.argmax(outside | (t < 0)))
        raise DataError(
            f"{where} has an event at t={t[event]:g}, x={x[event]}, y={y[event]}, p={p[event]} (event {event}), "
            f"expected t of 0 or more, and x, y and p below {width}, {height} and {polarities}.",
            "Its file is damaged.",
        )
    at, kept = _steps(t, steps, window)
    units = width * height * polarities
    places = at * units + (p * height + y) * width + x
    counts = np.bincount(places[kept], minlength=steps * units)
    return np.minimum(counts, MOST).astype(np.uint8).reshape(steps, units)


def _steps(t: Array, steps: int, window: float | None) -> tuple[Array, Array]:
    """The time step of every event, and which events are counted."""
    if not len(t):
        return np.zeros(0, np.int64), np.zeros(0, bool)
    first, length = (t.min(), max(float(t.max() - t.min()), 1.0)) if window is None else (0.0, window)
    at = ((t - first) * (steps / length)).astype(np.int64)
    return np.minimum(at, steps - 1), np.ones(len(t), bool) if window is None else t < window


# ---------------------------------------------------------------------------- what tonic gives


def _part(config: TonicConfig, train: bool) -> tuple[StoredArray, Array, tuple[str, ...]]:
    """Inputs, labels and names of the classes of a part."""
    source = _source(config, train)
    labels = _labels(source, config.which)
    files = _files(source)
    # Some classes of tonic list files in the order of the file system, which differs between machines.
    order = np.lexsort((np.arange(len(labels)) if files is None else np.argsort(np.argsort(files)), labels))
    width, height, polarities = (*source.sensor_size, 1, 1)[:3]
    shape = (config.steps, width * height * polarities)
    rows = EventRows(source, order, (width, height, polarities), config.steps, config.window, shape)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in getattr(source, "classes", ())]
    return StoredArray(rows), labels[order], tuple(names)


def _source(config: TonicConfig, train: bool) -> Any:
    kind = _kind(config.which)
    folder = os.path.expanduser(config.folder or os.environ.get(FOLDER_VARIABLE) or "~/.cache/neurai")
    part: dict[str, Any] = {"train": train} if "train" in _arguments(kind) else {"split": "train" if train else "test"}
    if not config.download:
        kind = type(kind.__name__, (kind,), {"download": _refuse_download})  # its name is that of the folder
    with suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        return kind(save_to=folder, **part)
    except DataError:
        raise
    except Exception as error:  # no network, no space, a damaged archive: tonic raises what it meets
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"tonic cannot load {config.which} from {folder}: {reason}.",
            f"Put its files into {os.path.join(folder, kind.__name__)}, as tonic's documentation says.",
        ) from error


def _refuse_download(source: Any) -> None:
    raise DataError(
        f"tonic finds no {type(source).__name__} in {source.location_on_system}, and download=False.",
        "Put its files there, or leave out download=False.",
    )


def _kind(name: str) -> type:
    """The class of tonic with that name, in any case."""
    import tonic.datasets

    known = {one: getattr(tonic.datasets, one) for one in tonic.datasets.__all__}
    usable = {one.lower(): kind for one, kind in known.items() if {"train", "split"} & _arguments(kind).keys()}
    if name.lower() not in usable:
        what = "has no training and test part" if name in known else "is not one of tonic's data sets"
        names = ", ".join(sorted(kind.__name__ for kind in usable.values()))
        raise DataError(f"{name} {what}.", f"Those with a training and a test part: {names}.")
    return usable[name.lower()]


def _arguments(kind: Callable[..., Any]) -> Any:
    return inspect.signature(kind).parameters


def _labels(source: Any, name: str) -> Array:
    """A label for every example."""
    found = source.targets if len(source.targets) == len(source) else [source[i][1] for i in range(len(source))]
    try:
        labels = np.asarray(found)
    except ValueError:  # of several shapes
        labels = np.zeros(0, object)
    if labels.shape != (len(source),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"tonic's {name} has no label for every example.", "Choose a data set of one class per example."
        )
    return as_labels(labels)


def _files(source: Any) -> list[str] | None:
    """The file of every example; None if they are not in files of their own."""
    found = list(source.data)
    return found if len(found) == len(source) and all(isinstance(one, str) for one in found) else None

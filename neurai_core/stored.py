"""Arrays on disk, of which only those rows come into memory that are used.

`numpy.load(file, mmap_mode="r")` maps a file: it has a shape, and rows are read when they are indexed. A `StoredArray`
also converts the rows that it reads, so that pictures stay bytes until a model needs them.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurai_core.errors import DataError

Array = NDArray[Any]

AT_ONCE = 2**26  # bytes that are read together where all of an array is gone through: 64 MiB
SHARE = 0.5  # of the free memory, up to which the pages of a file are mapped before its rows are used
ALIGNED = 64  # bytes; XLA uses memory that begins at a multiple of them without copying it
_POPULATE_READ = 22  # madvise of Linux 5.14


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array of numbers of any type, whose rows become float32 when they are read.

    It has what an array has that is read by rows: ``shape``, ``dtype``, ``len``, indexing, ``reshape``. NumPy makes an
    ordinary array of it, in memory.

    Args:
        stored: the numbers as they are stored, (N, ...), usually a memory map; they must not be changed. Any object
            will do that has ``shape``, ``dtype``, ``ndim``, ``size``, ``len`` and ``reshape``, and gives arrays of rows
            when it is indexed by slices, or by arrays of row numbers. It may have a ``digest``: a text that identifies
            its numbers, for the data hash, so that they need not all be read.
        unit: by what they are divided: 255 for the bytes of pictures, which makes them numbers in [0, 1].

    Example:
        >>> pictures = np.array([[0, 51], [102, 255]], np.uint8)
        >>> x = StoredArray(pictures, unit=255)
        >>> x[1:], x.shape, x.dtype, x.reshape(2, 1, 2)[0].tolist()
        (array([[0.4, 1. ]], dtype=float32), (2, 2), dtype('float32'), [[0.0, 0.20000000298023224]])
    """

    stored: Any
    unit: float = 1.0

    dtype = np.dtype(np.float32)

    def __post_init__(self) -> None:
        if not isinstance(self.stored, np.ndarray):
            return
        view = self.stored.view()
        view.flags.writeable = False
        object.__setattr__(self, "stored", view)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, (N, ...)."""
        return tuple(self.stored.shape)

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return int(self.stored.ndim)

    @property
    def size(self) -> int:
        """Number of its entries."""
        return int(self.stored.size)

    @property
    def nbytes(self) -> int:
        """Bytes that it would take in memory, as float32."""
        return self.size * self.dtype.itemsize

    @property
    def flags(self) -> Any:
        """Those of what is stored: it cannot be written to."""
        return getattr(self.stored, "flags", _READ_ONLY.flags)

    @property
    def digest(self) -> str:
        """What identifies the numbers without reading them; empty if they must be read."""
        known = getattr(self.stored, "digest", "")
        return f"{known} by {self.unit}" if known else ""

    @cached_property
    def table(self) -> Array | None:
        """What the bytes 0..255 become, (256,); None if the numbers are not unsigned bytes."""
        return _converted(np.arange(256, dtype=np.uint8), self.unit) if self.stored.dtype == np.uint8 else None

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> Array:
        return self.converted(self.stored[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def reshape(self, *shape: int) -> StoredArray:
        """The same numbers in another shape."""
        return StoredArray(self.stored.reshape(*shape), self.unit)

    def converted(self, stored: Array) -> Array:
        """Numbers as they are stored, as float32 and divided by the unit."""
        return _converted(stored, self.unit) if self.table is None else self.table[stored]


class FileMark(NamedTuple):
    """A file as it was when its rows began to be read.

    Attributes:
        path: its path.
        size: its size in bytes.
        modified: when it was last modified, in nanoseconds.
        number: its number in the file system, which another file in its place does not have.
    """

    path: str
    size: int
    modified: int
    number: int

    @staticmethod
    def of(path: str) -> FileMark:
        """A file as it is.

        >>> FileMark.of(__file__).size > 0
        True
        """
        now = os.stat(path)
        return FileMark(path, now.st_size, now.st_mtime_ns, now.st_ino)


def is_stored(array: Any) -> bool:
    """Whether rows of an array are read when they are used: it is mapped from a file, or a `StoredArray`.

    >>> is_stored(np.zeros(3)), is_stored(StoredArray(np.zeros((3, 2), np.uint8)))
    (False, True)
    """
    return isinstance(array, StoredArray) or any(isinstance(one, mmap.mmap) for one in _bases(array))


def files_of(*arrays: Any) -> tuple[FileMark, ...]:
    """The files that arrays are mapped from, as they are now.

    >>> files_of(np.zeros(3))
    ()
    """
    maps = (one for array in arrays for one in _bases(array) if isinstance(one, np.memmap))
    paths = dict.fromkeys(os.path.abspath(one.filename) for one in maps if one.filename is not None)
    return tuple(FileMark.of(path) for path in paths if os.path.exists(path))  # one without a name cannot be watched


def check_unchanged(files: tuple[FileMark, ...]) -> None:
    """Check that files are as they were, before rows of them are read: those of a file that was cut off are not there.

    Raises:
        DataError: one has another size or time of modification, is another file, or cannot be found.
    """
    for was in files:
        try:
            now = FileMark.of(was.path)
        except OSError as error:
            raise DataError(
                f"{was.path} changed while it was read: it cannot be found any more ({error.strerror}).", _RESTORE
            ) from error
        if now != was:
            raise DataError(f"{was.path} changed while it was read: {_difference(was, now)}.", _RESTORE)


def row_reader(array: Array) -> Callable[[Array], Array]:
    """What reads rows of an array by their numbers, (B,), in that order.

    A file that fits into half of the free memory is read through its map, whose pages are prepared here, all at once: a
    fault of memory at every row would take longer than reading it. Rows of a larger file, or on systems that cannot
    prepare pages, are read one by one, by `read_rows`.

    Args:
        array: the array, (N, ...), in memory or mapped.

    >>> row_reader(np.array([[1], [2], [3]]))(np.array([2, 0])).tolist()
    [[3], [1]]
    """
    pages = next((one for one in _bases(array) if isinstance(one, mmap.mmap)), None)
    if pages is None or (len(pages) <= SHARE * free_memory() and _prepared(pages)):
        return partial(_taken, array)
    return partial(read_rows, array)


def free_memory() -> float:
    """The free memory of the machine, in bytes; infinite if the system does not tell.

    >>> free_memory() > 0
    True
    """
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        return 1024.0 * next(float(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    return math.inf


def read_rows(array: Array, rows: Array) -> Array:
    """Rows of an array by their numbers, in that order; those of a file are read one by one, in the order of the file.

    Args:
        array: the array, (N, ...), in memory or mapped.
        rows: row numbers, (B,).

    Raises:
        DataError: the file has become shorter.

    >>> read_rows(np.array([[1], [2], [3]]), np.array([2, 0])).tolist()
    [[3], [1]]
    """
    maps = [one for one in _bases(array) if isinstance(one, np.memmap)]
    origin = maps[-1] if maps else None  # only of the map itself is the offset that of its first byte
    if origin is None or origin.filename is None or not array.flags.c_contiguous:
        return _taken(array, rows)
    start = origin.offset + array.__array_interface__["data"][0] - origin.__array_interface__["data"][0]
    found = _room((len(rows), *array.shape[1:]), array.dtype)
    size = array.nbytes // max(1, len(array))
    memory = found.reshape(-1).view(np.uint8).data
    file = os.open(origin.filename, os.O_RDONLY)
    try:
        for place in np.argsort(rows, kind="stable").tolist():
            at = start + int(rows[place]) * size
            if os.preadv(file, [memory[place * size : (place + 1) * size]], at) != size:
                raise DataError(f"{origin.filename} changed while it was read: it has no row {rows[place]}.", _RESTORE)
    finally:
        os.close(file)
    return found


def parts_of(array: Any, at_once: int = AT_ONCE) -> Iterator[Any]:
    """The rows of an array, so many that they take about ``at_once`` bytes, one part after another.

    >>> [len(part) for part in parts_of(np.zeros((5, 2)), at_once=32)]
    [2, 2, 1]
    """
    if array.ndim == 0 or not len(array):
        yield array
        return
    of_one = math.prod(array.shape[1:]) * array.dtype.itemsize
    rows = max(1, at_once // max(1, of_one))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


_READ_ONLY = np.zeros(0)
_READ_ONLY.flags.writeable = False
_RESTORE = "Restore the file to continue from the newest checkpoint (--resume FOLDER), or start another run."


def _prepared(pages: mmap.mmap) -> bool:
    """Whether all pages of a map could be prepared for reading."""
    try:
        for start in range(0, len(pages), AT_ONCE):  # between parts, signals are obeyed
            pages.madvise(_POPULATE_READ, start, min(AT_ONCE, len(pages) - start))
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _taken(array: Array, rows: Array) -> Array:
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        return np.asarray(array[rows])  # `take` would copy all of it before
    found = _room((len(rows), *array.shape[1:]), array.dtype)
    return np.take(array, rows, axis=0, out=found, mode="clip")  # any other mode fills a second array


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array to fill, whose memory XLA can use as it is."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNED, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _difference(was: FileMark, now: FileMark) -> str:
    if now.size != was.size:
        return f"it had {was.size} bytes and has {now.size}"
    return "another file took its place" if now.number != was.number else "it was written to"


def _converted(stored: Array, unit: float) -> Array:
    with np.errstate(over="ignore"):  # values that float32 cannot hold become inf, which a check of the data finds
        values = np.asarray(stored).astype(np.float32)
    if unit != 1:
        values /= np.float32(unit)
    return values


def _bases(array: Any) -> Iterator[Any]:
    """An array, what it is a view of, and so on, down to what owns the memory."""
    found = array.stored if isinstance(array, StoredArray) else array
    while found is not None:
        yield found
        found = getattr(found, "base", None)

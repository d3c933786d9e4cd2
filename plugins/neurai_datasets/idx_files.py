"""The IDX file format of MNIST: one array per file, its type and shape in a short header.

Bytes 0 and 1 are zero, byte 2 is the type code, byte 3 the number of axes; then follow one big-endian 32-bit
size per axis and the values, big-endian, last axis fastest. Described by LeCun, Cortes and Burges with the
MNIST database (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check, numbered_classes, warn_of_empty_classes
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray, is_stored
from neurai_datasets.four_arrays import unpack

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
LISTED = 12  # file names that an error lists at most

Array = NDArray[Any]


def find(folder: Path) -> dict[str, Path]:
    """MNIST's four files, as far as a folder holds them, by plain name.

    A file may be gzipped (`.gz`), and its name may have a dot before `idx`; of several, the plain one is used.
    """
    found = {}
    for name in FILES:
        forms = (folder / (form + suffix) for suffix in ("", ".gz") for form in (name, name.replace("-idx", ".idx")))
        path = next((form for form in forms if os.path.isfile(form)), None)
        if path is not None:
            found[name] = path
    return found


def find_all(folder: Path) -> dict[str, Path]:
    """All four files of a folder, by plain name.

    Raises:
        DataError: there is no such folder, or a file is missing; lists what is there.
    """
    if not os.path.isdir(folder):
        what = "is a file" if os.path.isfile(folder) else "does not exist"
        raise DataError(f"{folder} {what}, expected a folder of IDX files.", f"It holds {', '.join(FILES)}.")
    found = find(folder)
    if len(found) < len(FILES):
        raise _incomplete(folder, found)
    return found


def read_stream(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzipped, regardless of its name.

    Raises:
        DataError: the file cannot be read, or its gzip stream is damaged.
    """
    with _explained(path):
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content


def unpacked(path: Path, folder: Path) -> Path:
    """The file, or if it is gzipped, one in the folder with its content.

    Raises:
        DataError: as for `read_stream`.
    """
    with _explained(path):
        if not is_gzipped(path):
            return path
        with gzip.open(path) as packed:
            return unpack(cast(IO[bytes], packed), folder / path.name.removesuffix(".gz"))


def parse(stream: bytes, path: Path) -> Array:
    """The array that an IDX stream holds, big-endian as stored.

    Args:
        stream: the whole file, decompressed.
        path: the file's name, for errors.

    Raises:
        DataError: wrong magic number, or more or fewer bytes than the header specifies.

    Example:
        >>> from pathlib import Path
        >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), Path("labels")).tolist()
        [7, 8, 9]
    """
    dtype, shape, start = _header(stream, path)
    _check_size(len(stream), dtype, shape, start, path)
    return np.frombuffer(stream, dtype, offset=start).reshape(shape)


def read(path: Path) -> Array:
    """The array of one IDX file, gzipped or not."""
    return parse(read_stream(path), path)


def mapped(path: Path) -> Array:
    """The array of one IDX file that is not gzipped, as a memory map.

    Raises:
        DataError: it is gzipped, or as for `parse`.
    """
    with _explained(path), path.open("rb") as file:
        head, given = file.read(4 + 4 * 255), os.path.getsize(path)  # as many axes as the header can tell
    if head.startswith(GZIP_MAGIC):
        raise DataError(f"{path} is gzipped, so that its rows cannot be read one by one.", "Decompress it with gunzip.")
    dtype, shape, start = _header(head, path)
    _check_size(given, dtype, shape, start, path)
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape) if math.prod(shape) else np.zeros(shape, dtype)


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, regardless of its name."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def dataset(
    name: str,
    arrays: dict[str, Array],
    paths: dict[str, Path],
    *,
    classes: tuple[str, ...] | None = None,
    first: int | None = None,
    license: str = "",
    keep_bytes: bool = False,
) -> Dataset:
    """Build and check a data set from the four arrays of IDX files.

    Args:
        name: the data set's name.
        arrays: by plain file name; images (N, H, W) get a channel axis, unsigned bytes become float32 in
            [0, 1], other types float32 as they are.
        paths: the files they came from, for errors.
        classes: what the labels mean; their numbers, from `first` to the largest label, when None.
        first: the label of the first class; None for 0, which must then have an example.
        license: the terms of the data.
        keep_bytes: keep the images as they are stored, and convert rows when they are read, as for images in files.

    Raises:
        DataError: see `neurai_core.data.check`; or the numbers of images and labels differ.
    """
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        _check_pair(arrays[images], arrays[labels], paths[images], paths[labels])
    x_train, x_test = (as_inputs(arrays[file], keep_bytes) for file in (TRAIN_IMAGES, TEST_IMAGES))
    y_train, y_test = (arrays[file].astype(np.int32) for file in (TRAIN_LABELS, TEST_LABELS))
    if classes is None:
        classes = numbered_classes(str(paths[TRAIN_LABELS]), y_train, y_test, first=first)
        y_train, y_test = y_train - (first or 0), y_test - (first or 0)
    data = check(Dataset(name, x_train, y_train, x_test, y_test, classes=classes, license=license))
    return warn_of_empty_classes(data, str(paths[TRAIN_LABELS]))


def as_inputs(images: Array, keep_bytes: bool = False) -> Any:
    """Images (N, H, W) as float32 (N, H, W, 1), bytes scaled to [0, 1]; other shapes keep their axes."""
    if keep_bytes or is_stored(images):
        shape = (*images.shape, 1) if images.ndim == 3 else images.shape
        return StoredArray(images.reshape(shape), unit=255 if images.dtype == np.uint8 else 1)
    with np.errstate(over="ignore"):  # values that float32 cannot hold become inf, and the check names their row
        values = images.astype(np.float32)
    if images.dtype == np.uint8:
        values /= 255
    return values[..., np.newaxis] if images.ndim == 3 else values


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into an error that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        size = os.path.getsize(path)
        raise DataError(f"{path} is a damaged gzip file of {size} bytes: {error}.", "Fetch the file again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.") from error


def _check_size(given: int, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, path: Path) -> None:
    expected = start + math.prod(shape) * dtype.itemsize
    if given != expected:
        raise DataError(
            f"{path} is {'truncated' if given < expected else 'too long'}: it has {given} bytes "
            f"decompressed, expected {expected} for {dtype.name} of shape {shape}.",
            "Fetch the file again.",
        )


def _header(stream: bytes, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape, and where the values start."""
    magic = stream[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise DataError(
            f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, expected 00 00, a type "
            f"code ({', '.join(f'{code:02x}' for code in TYPES)}) and the number of axes.",
            "Images of MNIST start with 00 00 08 03, labels with 00 00 08 01.",
        )
    start = 4 + 4 * magic[3]
    if len(stream) < start:
        raise DataError(
            f"{path} is truncated: it has {len(stream)} bytes decompressed, expected a header of {start}.",
            "Fetch the file again.",
        )
    return np.dtype(TYPES[magic[2]]), struct.unpack_from(f">{magic[3]}I", stream, 4), start


def _check_pair(images: Array, labels: Array, images_path: Path, labels_path: Path) -> None:
    if images.ndim < 2 or labels.ndim != 1:
        path, array, axes = (
            (labels_path, labels, "one axis") if labels.ndim != 1 else (images_path, images, "two axes or more")
        )
        raise DataError(f"{path} holds an array of shape {array.shape}, expected {axes}.", "Were two files swapped?")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{labels_path} holds {labels.dtype.name}, expected integer labels.", "Store them as bytes.")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels, expected equal numbers.",
            "The two files belong to different data sets or parts; fetch them again.",
        )


def _incomplete(folder: Path, found: dict[str, Path]) -> DataError:
    missing = ", ".join(name for name in FILES if name not in found)
    try:
        holds, hint = _listing(folder), _nearby(folder)
    except OSError as error:
        return DataError(f"{folder} cannot be read: {error.strerror}.", "Check its permissions.")
    return DataError(f"{folder} lacks {missing} (plain or .gz); it holds {holds}.", hint)


def _listing(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more if names else "nothing"


def _nearby(folder: Path) -> str:
    """The folder that was probably meant."""
    complete = [path for path in sorted(folder.iterdir()) if path.is_dir() and len(find(path)) == len(FILES)]
    if complete:
        return f"All four files are in {complete[0]}: give that folder."
    return f"A folder of IDX files has MNIST's four names: {', '.join(FILES)}."

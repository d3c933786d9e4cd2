"""Data sets that stay on the host: their rows are gathered while the device computes, and sent to it ahead of time.

The order of the rows is that of data on the device, and so are the numbers: a run gives the same bits either way.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from neurai_core.data import Dataset, order
from neurai_core.stored import StoredArray, check_unchanged, is_stored, row_reader
from neurai_core.training.devices import own_rows, place_batch
from neurai_core.training.stream import Batch, Data

SHARE = 0.25  # of the memory of a device, up to which the arrays of a part of the data are kept there
AHEAD = 4  # batches that wait for the device

Array = NDArray[Any]
Item = TypeVar("Item")


def on_device(data: Data, part: str = "train") -> bool:
    """Whether all rows of a part of the data are on the device while a task is trained.

    They are unless they come in batches, are read from files as they are needed, or take more than a quarter of the
    memory of the device.

    >>> import neurai_core as neurai
    >>> on_device(neurai.dataset("digits"))
    True
    """
    if not isinstance(data, Dataset) and part == "train":
        return False
    arrays = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
    return not any(map(is_stored, arrays)) and sum(one.nbytes for one in arrays) <= SHARE * device_bytes()


def device_bytes() -> float:
    """The memory of the first device, that of the machine for a CPU; infinite if it is not told.

    >>> device_bytes() > 0
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    with suppress(OSError, ValueError, AttributeError):  # a system that does not tell
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


def gatherer(data: Dataset) -> Callable[[Array], Batch]:
    """What gives training rows by their numbers, (B,), in that order, as they are stored.

    It raises a `DataError` if a file of the data has changed.

    Args:
        data: the data set.

    >>> x = StoredArray(np.array([[0], [51], [255]], np.uint8), unit=255)
    >>> data = Dataset("mine", x, np.array([0, 1, 2]), x, np.array([0, 1, 2]), classes=("a", "b", "c"))
    >>> gatherer(data)(np.array([2, 0])).x.tolist()
    [[255], [0]]
    """
    readers = [_reader(stored_form(one)) for one in (data.x_train, data.y_train)]

    def gather(rows: Array) -> Batch:
        check_unchanged(data.files)
        return Batch(*(read(rows) for read in readers))

    return gather


def stored_form(array: Any) -> Any:
    """The numbers of an array as they are stored, an array or what is indexed like one."""
    return array.stored if isinstance(array, StoredArray) else np.asarray(array)


def sender(arrays: Sequence[Any], mesh: Mesh | None = None) -> Callable[..., tuple[Any, ...]]:
    """What brings rows of arrays, as they are stored, to the devices, as the numbers that a model takes.

    Bytes are sent as bytes and converted there, by a table of their 256 values: the same bits as on the host. Rows of
    which a process needs only some, `own_rows`, are sent with their number as the second argument. On a single CPU,
    other rows stay arrays of NumPy, whose memory a program uses.

    Args:
        arrays: the arrays.
        mesh: the devices that share the rows; None is the default device.

    >>> x = StoredArray(np.array([[0], [51], [255]], np.uint8), unit=255)
    >>> (sent,) = sender([x])([x.stored[1:]])
    >>> sent.tolist() == x[1:].tolist()
    True
    """
    tables = [one.table if isinstance(one, StoredArray) else None for one in arrays]
    converting = [isinstance(one, StoredArray) and one.table is None for one in arrays]
    here = mesh is None and jax.default_backend() == "cpu"

    def send(stored: Sequence[Array], count: int | None = None) -> tuple[Any, ...]:
        given = zip(arrays, converting, stored, strict=True)
        converted = [array.converted(rows) if on_host else rows for array, on_host, rows in given]
        placed: tuple[Any, ...] = tuple(map(_canonical, converted)) if here else place_batch(mesh, converted, count)
        return tuple(
            rows if table is None else _looked_up(mesh, table, rows) for table, rows in zip(tables, placed, strict=True)
        )

    return send


def _canonical(rows: Array) -> Array:
    """Rows in the dtype that they have in JAX."""
    return np.asarray(rows, jax.dtypes.canonicalize_dtype(rows.dtype))


def _looked_up(mesh: Mesh | None, table: Array, codes: Any) -> jax.Array:
    found: jax.Array = _taken(table, codes)
    return found if mesh is None else jax.device_put(found, codes.sharding)


@jax.jit
def _taken(table: jax.Array, codes: jax.Array) -> jax.Array:
    return jnp.take(table, codes.astype(jnp.int32), mode="clip")  # no code lies outside, so nothing is clipped


def host_feed(
    data: Dataset, seed: int, batch_size: int, mesh: Mesh | None = None
) -> Callable[[int, int], Iterator[tuple[Any, ...]]]:
    """``(epoch, start) -> `` the batches of an epoch from step ``start`` on, on the device.

    A process reads those rows of a batch that belong to its devices.

    Args:
        data: the data set.
        seed: of the order of its rows.
        batch_size: rows of a batch; those that do not fill one are left out.
        mesh: the devices that share every batch; None is the default device.
    """
    send, own = sender([data.x_train, data.y_train], mesh), own_rows(mesh, batch_size)
    gather = gatherer(data)

    def batches(epoch: int, start: int) -> Iterator[tuple[Any, ...]]:
        rows = order(seed, epoch, len(data.x_train))
        for step in range(start, len(rows) // batch_size):
            yield send(gather(rows[step * batch_size : (step + 1) * batch_size][own]), batch_size)

    return lambda epoch, start: prefetched(batches(epoch, start))


@dataclass(frozen=True)
class HostParts:
    """Rows in file order, so many at a time, on the device; they can be gone through again and again.

    Attributes:
        data: the data set, whose files must not change.
        arrays: which of its arrays.
        at_once: rows of a part.
        mesh: the devices that share the rows.
    """

    data: Data
    arrays: tuple[Any, ...]
    at_once: int
    mesh: Mesh | None = None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return prefetched(self._parts(), ahead=2)

    def _parts(self) -> Iterator[tuple[Any, ...]]:
        stored, send = [stored_form(one) for one in self.arrays], sender(self.arrays, self.mesh)
        for at in range(0, len(self.arrays[0]), self.at_once):
            check_unchanged(getattr(self.data, "files", ()))
            count = min(self.at_once, len(self.arrays[0]) - at)
            own = own_rows(self.mesh, count)
            yield send([np.array(one[at + own.start : at + own.stop]) for one in stored], count)


def prefetched(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """The same items, made by a thread while others are used; at most ``ahead`` of them wait.

    Once so many wait, the thread rests until half of them are used: waking it for each would take as long as a short
    step. An error of the thread is raised in place of the item. The thread ends when this iterator does, also if that
    is closed early.

    >>> list(prefetched(range(3)))
    [0, 1, 2]
    """
    changed, waiting = threading.Condition(), deque[tuple[Any, BaseException | None, bool]]()
    closed = False
    config: Any = jax.config
    wide, device = config.jax_enable_x64, config.jax_default_device  # which a thread does not inherit

    def put(item: Any, error: BaseException | None = None, *, last: bool = False) -> None:
        with changed:
            waiting.append((item, error, last))
            changed.notify()
            if len(waiting) >= ahead:
                changed.wait_for(lambda: closed or len(waiting) <= ahead // 2)

    def work() -> None:
        try:
            with jax.enable_x64(wide), jax.default_device(device):
                for item in items:
                    put(item)
                    if closed:
                        return
            put(None, last=True)
        except BaseException as error:
            put(None, error, last=True)

    thread = threading.Thread(target=work, name="neurai rows", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting)
                item, error, last = waiting.popleft()
                changed.notify()
            if error is not None:
                raise error
            if last:
                return
            yield item
    finally:
        with changed:
            closed = True
            changed.notify()
        thread.join()


def _reader(array: Any) -> Callable[[Array], Array]:
    """What reads rows of an array, or of what is indexed like one, which is read in its own order."""
    if isinstance(array, np.ndarray):
        return row_reader(array)

    def read(rows: Array) -> Array:
        by_place = np.argsort(rows, kind="stable")
        found = np.empty((len(rows), *array.shape[1:]), array.dtype)
        found[by_place] = array[rows[by_place]]
        return found

    return read

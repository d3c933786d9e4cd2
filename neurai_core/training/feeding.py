"""How a step gets its batch: from data on the device, which it gathers by row numbers, from the host, or a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np

from neurai_core.data import Dataset, order
from neurai_core.training.devices import place_batch, place_everywhere
from neurai_core.training.host_data import host_feed, on_device, prefetched
from neurai_core.training.step import rows_used
from neurai_core.training.stream import Stream
from neurai_core.training.task import Task

Feed = Callable[[int, int], Iterator[tuple[Any, ...]]]


def feed_of(task: Task) -> Feed:
    """``(epoch, start) -> ``what every step of the epoch, from step ``start`` of it on, takes besides its progress."""
    if isinstance(task.data, Stream):
        return _streamed(task, task.data)
    if on_device(task.data):
        return _gathered(task, task.data)
    return host_feed(task.data, task.seed, task.batch_size, task.mesh)


@contextmanager
def fed(feed: Feed, epoch: int, start: int) -> Iterator[Iterator[tuple[Any, ...]]]:
    """What a feed gives for an epoch; whatever it has started to do ahead of time ends with the block."""
    found = feed(epoch, start)
    try:
        yield found
    finally:
        getattr(found, "close", lambda: None)()


def _streamed(task: Task, data: Stream) -> Feed:
    def feed(epoch: int, start: int) -> Iterator[tuple[Any, ...]]:
        arriving = (place_batch(task.mesh, batch) for batch in data.batches(epoch, start))
        return prefetched(arriving) if data.ahead else arriving

    return feed


def _gathered(task: Task, data: Dataset) -> Feed:
    x, y = (place_everywhere(task.mesh, part) for part in (data.x_train, data.y_train))

    def feed(epoch: int, start: int) -> Iterator[tuple[Any, ...]]:
        order_now = order(task.seed, epoch, len(data.x_train))[: rows_used(task)]
        return repeat((x, y, place_everywhere(task.mesh, order_now.astype(np.int32))))  # the step knows its position

    return feed

"""When a run saves a checkpoint, and the thread that writes it while training goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from neurai_core.errors import SettingsError

USUAL_SECONDS = 60.0
MANY = 2**31


class Every(NamedTuple):
    """How often a run is saved: every so many steps, or seconds. With neither, after every epoch and every minute."""

    steps: int | None = None
    seconds: float | None = None


USUALLY = Every()


class Options(NamedTuple):
    """How a run is saved, and what it accepts when it goes on.

    Attributes:
        every: how often it is saved.
        keep: how many checkpoints are kept, the newest.
        force: go on although something that decides its bits has changed.
        trust: run code that its configuration names even if the file of the code has changed.
    """

    every: Every = USUALLY
    keep: int = 2
    force: bool = False
    trust: bool = False


USUAL = Options()


def every_of(text: str | int) -> Every:
    """Read ``500``, which is steps, or ``60s``, seconds.

    Raises:
        SettingsError: it is neither.

    >>> every_of("500"), every_of("60s").seconds
    (Every(steps=500, seconds=None), 60.0)
    """
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?) ?s", str(text).strip())
    steps, seconds = found.groups() if found else (None, None)
    if not (int(steps or 0) or float(seconds or 0)):
        raise SettingsError(f"--every got {text!r}, expected steps or seconds.", "Write --every 500, or --every 60s.")
    return Every(int(steps) if steps else None, float(seconds) if seconds else None)


@dataclass
class Timetable:
    """Says when a checkpoint is due.

    Args:
        every: how often.
        done: steps done at the start.

    >>> times = Timetable(Every(steps=10), done=3)
    >>> times.until_due(3), times.is_due(9, epoch_ends=True), times.is_due(10, epoch_ends=False)
    (7, False, True)
    """

    every: Every
    done: int = 0
    since: float = field(default_factory=time.monotonic)

    def is_due(self, done: int, *, epoch_ends: bool) -> bool:
        """Whether one is due after so many steps."""
        steps, seconds = self.every
        if steps is not None:
            return done // steps > self.done // steps
        if seconds is None and epoch_ends:
            return True
        return time.monotonic() - self.since >= (USUAL_SECONDS if seconds is None else seconds)

    def saved(self, done: int) -> None:
        """Note that one has been asked for."""
        self.done, self.since = done, time.monotonic()

    def until_due(self, done: int) -> int:
        """The number of steps after which to look again."""
        steps = self.every.steps
        return MANY if steps is None else steps - done % steps


class Writer:
    """Calls ``write`` in a thread of its own. At most one item waits; a newer one takes its place.

    Args:
        write: writes an item and returns what to tell.
        written: called in the thread of the caller with that, after it was written.

    >>> told = []
    >>> writer = Writer(lambda item: f"step {item}", told.append)
    >>> writer.put(1); writer.finish(); writer.close()
    >>> told
    ['step 1']
    """

    def __init__(self, write: Callable[[Any], Any], written: Callable[[Any], object]) -> None:
        self._write, self._written = write, written
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._running: Future[Any] | None = None
        self._waiting: list[Any] = []

    def put(self, item: Any) -> None:
        """Write an item as soon as the one before is written."""
        self._waiting = [item]
        self.look()

    def look(self) -> None:
        """Tell of what was written, raise what went wrong, and start what waits."""
        if self._running is not None:
            if not self._running.done():
                return
            ended, self._running = self._running, None
            self._written(ended.result())
        if self._waiting:
            self._running = self._thread.submit(self._write, self._waiting.pop())

    def finish(self) -> None:
        """Wait until all is written."""
        while self._running is not None:
            self._running.exception()  # waits
            self.look()

    def close(self) -> None:
        """End the thread, after what it is writing."""
        self._waiting.clear()
        self._thread.shutdown(wait=True)

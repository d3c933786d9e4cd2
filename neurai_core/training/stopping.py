"""Stopping on Ctrl-C and SIGTERM: the running step ends first, so that the current state can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from neurai_core.errors import TrainingError


class Stopped(TrainingError):
    """Training was stopped by a signal, and the current state was saved.

    Args:
        signum: the signal; the exit code is 128 plus its number.
        step: number of steps done.
        folder: the folder of the run.
    """

    def __init__(self, signum: int, step: int, folder: Path) -> None:
        super().__init__(
            f"Training was stopped by {signal.Signals(signum).name} after {step} steps; they are saved.",
            f"Go on with: neurai train --resume {folder}",
            step=step,
        )
        self.exit_code = 128 + signum


class StopRequest:
    """The signal that requested a stop, if any."""

    signum: int | None = None

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.signum is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM inside the block instead of dying; a second one acts at once.

    Outside the main thread, where Python allows no handlers, this has no effect.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {int(signum): signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def note(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, before[signum])

    for signum in before:
        signal.signal(signum, note)
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

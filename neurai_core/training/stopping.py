"""Stopping on Ctrl-C and SIGTERM, from the first moment of a command.

A signal raises an exception until training begins. Code that is being imported or compiled may swallow it, so the
signal is also remembered, and obeyed before the step is compiled or run. Once training runs, the running step ends
first, so that the current state can be saved.

This module imports nothing heavy, because it is imported before everything else.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from neurai_core.errors import TrainingError

INTERRUPTED, TERMINATED = 130, 143  # exit codes
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_remembered: list[int] = []  # signals that were raised and perhaps swallowed


class Terminated(BaseException):
    """SIGTERM arrived; not a SystemExit, which may also come from a module that is being imported."""


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
            f"Continue with: neurai train --resume {folder}",
            step=step,
        )
        self.exit_code = 128 + signum


class StopRequest:
    """The signal that requested a stop, if any."""

    signum: int | None = None

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.signum is not None


def obey() -> None:
    """Raise for a signal that was swallowed, or turned into another exception by what it interrupted."""
    if _remembered:
        _raise(_remembered[0])


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Inside the block, SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`, and both are remembered.

    Outside the main thread, where Python allows no handlers, this has no effect.
    """
    _remembered.clear()
    usual = sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt | Terminated):
            usual(unraisable)

    def note(signum: int, frame: FrameType | None) -> None:
        _remembered.append(signum)
        _raise(signum)

    with _handled(note):
        sys.unraisablehook = quiet  # what a callback swallows is obeyed later
        try:
            yield
        finally:
            sys.unraisablehook = usual
            _remembered.clear()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM inside the block instead of dying; a second one acts at once.

    A signal that came before and was swallowed counts. Outside the main thread, where Python allows no handlers, this
    has no effect.
    """
    request = StopRequest()
    request.signum = _remembered[0] if _remembered else None
    before = {int(signum): signal.getsignal(signum) for signum in SIGNALS}

    def note(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, before[signum])

    with _handled(note):
        yield request


def _raise(signum: int) -> NoReturn:
    raise KeyboardInterrupt if signum == signal.SIGINT else Terminated


@contextmanager
def _handled(handler: signal._HANDLER) -> Iterator[None]:
    """Both signals go to the handler inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, usual in before.items():
            signal.signal(signum, usual)

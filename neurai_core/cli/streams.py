"""The standard streams of the process: made usable before a command, and seen to be written after it.

A command may meet a stream that is closed (``>&-``), full, or gone in the middle. Answers that cannot be written are
an error; what goes to stderr is best effort, for training must not end because nobody can be told how it goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

NARROWEST = 20  # columns; a terminal that claims fewer is not believed


class GuardedStream:
    """A stream that remembers the first error of writing to it, and from then on is sent nowhere.

    >>> stream = GuardedStream(sys.stdout)
    >>> stream.isatty() == sys.stdout.isatty(), stream.lost
    (True, None)
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, or lose it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Bring out what was written, if that can be."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Without this, what is left in the stream would fail once more at the end of the process."""
        self.lost = self.lost or error
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def guarded_streams() -> Iterator[GuardedStream]:
    """Inside, the streams are open and never raise; what stdout could not take, its ``lost`` says afterwards."""
    _open_closed()
    if not _is_width(os.environ.get("COLUMNS", "80")):
        del os.environ["COLUMNS"]
    before, answers, words = (sys.stdout, sys.stderr), GuardedStream(sys.stdout), GuardedStream(sys.stderr)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the encoding lacks
    sys.stdout, sys.stderr = cast(TextIO, answers), cast(TextIO, words)
    try:
        yield answers
    finally:
        answers.flush()
        words.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Give closed streams their descriptors back, so that no file opened later gets one; writing there fails."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        if descriptor > 2:
            os.close(descriptor)
            break
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - it lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def _is_width(text: str) -> bool:
    return text.isdecimal() and int(text) >= NARROWEST

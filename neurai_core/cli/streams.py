"""The standard streams of the process: made usable before a command, and checked for write errors after it.

A stream may be closed (``>&-``), full, or broken midway. Answers that cannot be written are an error; output to stderr
is best effort, because training must not end when its progress cannot be shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

NARROWEST = 20  # columns; fewer reported by a terminal are ignored


class GuardedStream:
    """A stream that remembers the first write error and discards everything after it.

    >>> stream = GuardedStream(sys.stdout)
    >>> stream.isatty() == sys.stdout.isatty(), stream.lost
    (True, None)
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, or discard it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Discard buffered text, which would otherwise fail again at the end of the process."""
        self.lost = self.lost or error
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def guarded_streams() -> Iterator[GuardedStream]:
    """Keep the streams open and silent inside the block; ``lost`` of stdout holds a write error afterwards."""
    _open_closed()
    if not _is_width(os.environ.get("COLUMNS", "80")):
        del os.environ["COLUMNS"]
    before, answers, words = (sys.stdout, sys.stderr), GuardedStream(sys.stdout), GuardedStream(sys.stderr)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for characters that the encoding lacks
    sys.stdout, sys.stderr = cast(TextIO, answers), cast(TextIO, words)
    try:
        yield answers
    finally:
        answers.flush()
        words.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Reopen closed descriptors, so that no file opened later gets one of them; writing there fails."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        if descriptor > 2:
            os.close(descriptor)
            break
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - open for the lifetime of the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def _is_width(text: str) -> bool:
    return text.isdecimal() and int(text) >= NARROWEST

"""Where output goes: answers to stdout, as tables or as JSON; everything else to stderr.

Nothing is interpreted as markup or as an emoji name: user text is printed verbatim.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console

from neurai_core.cli.streams import GuardedStream

_answers: TextIO | None = None  # where JSON goes while stdout is kept for it
_WIDE = 160  # columns if the width of the terminal is unknown


def stdout() -> Console:
    """For answers."""
    return _console(stderr=False)


def stderr() -> Console:
    """For progress, notes and errors."""
    return _console(stderr=True)


def note(sentence: str) -> None:
    """Print a note that is not an error."""
    stderr().print(f"note: {sentence}")


@contextmanager
def only_json_on_stdout() -> Iterator[None]:
    """Redirect everything else printed in a ``with`` block to stderr, including output that bypasses Python."""
    global _answers
    python = sys.stdout
    kept = _copy_of_stdout()
    _answers = python if kept is None else cast(TextIO, kept)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, _answers = python, None
        if kept is not None:
            _give_back(kept, python)


def _give_back(kept: GuardedStream, python: Any) -> None:
    """Restore stdout, and pass on any write error that occurred in the meantime."""
    kept.flush()
    os.dup2(kept.fileno(), 1)
    kept.close()
    if isinstance(python, GuardedStream):
        python.lost = python.lost or kept.lost


def _copy_of_stdout() -> GuardedStream | None:
    """Redirect stdout to stderr and return a stream to its target; None if it is not a system stream."""
    try:
        if sys.stdout.fileno() != 1:
            return None
    except (AttributeError, OSError, ValueError):
        return None
    sys.stdout.flush()
    copy = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: SIM115
    os.dup2(2, 1)
    return GuardedStream(copy)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    (_answers or sys.stdout).write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    told = stream.isatty() or "COLUMNS" in os.environ
    width = None if told else _WIDE
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=stderr, width=width)

"""Where output goes: answers to stdout, as tables or as JSON; everything else to stderr.

Nothing that is printed is read as markup or as the name of an emoji: what users wrote comes out as they wrote it.
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
_WIDE = 160  # columns when nobody's terminal says


def stdout() -> Console:
    """For answers."""
    return _console(stderr=False)


def stderr() -> Console:
    """For progress, notes and errors."""
    return _console(stderr=True)


def note(sentence: str) -> None:
    """Something to know that is no error."""
    stderr().print(f"note: {sentence}")


@contextmanager
def only_json_on_stdout() -> Iterator[None]:
    """Send to stderr whatever else is printed in a ``with`` block, also by what writes past Python."""
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
    """Let stdout go where it went before, and the watch over it know what could not be written meanwhile."""
    kept.flush()
    os.dup2(kept.fileno(), 1)
    kept.close()
    if isinstance(python, GuardedStream):
        python.lost = python.lost or kept.lost


def _copy_of_stdout() -> GuardedStream | None:
    """A stream to where stdout goes, which from now on goes to stderr; None where it is no stream of the system."""
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
    """One JSON value on stdout."""
    (_answers or sys.stdout).write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    told = stream.isatty() or "COLUMNS" in os.environ
    width = None if told else _WIDE
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=stderr, width=width)

"""Where output goes: answers to stdout, as tables or as JSON; everything else to stderr.

Nothing that is printed is read as markup or as the name of an emoji: what users wrote comes out as they wrote it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console

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


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    told = stream.isatty() or "COLUMNS" in os.environ
    width = None if told else _WIDE
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=stderr, width=width)

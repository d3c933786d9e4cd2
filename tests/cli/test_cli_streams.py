"""Standard streams that are closed, full or narrow, and text that looks like markup."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
NEURAI = f"'{sys.executable}' -m neurai_core"


def shell(line: str) -> tuple[int, str, str]:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{NEURAI} rules >&-", "Bad file descriptor"),
        (f"{NEURAI} rules --json >/dev/full", "No space left on device"),
        (f"{NEURAI} --help >/dev/full", "No space left on device"),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_sentence_and_a_hint(line: str, reason: str) -> None:
    sentence = f"error: The answer cannot be written to standard output: {reason}."
    assert shell(line) == (1, "", f"{sentence}\nhint: Send it elsewhere.\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [(f"{NEURAI} --version 2>&-", 0), (f"{NEURAI} describe nothing-of-that-name 2>/dev/full", 2)],
)
def test_what_stderr_cannot_take_is_lost_and_changes_no_exit_code(line: str, code: int) -> None:
    assert shell(line)[0] == code


def test_with_every_stream_closed_the_exit_code_still_says_how_it_ended() -> None:
    assert shell(f"{NEURAI} rules <&- >&- 2>&-") == (1, "", "")


@pytest.mark.parametrize("columns", ["0", "1", "-3", "many"])
def test_a_width_that_holds_nothing_is_not_believed(neurai: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert "gradient of the feed-forward loss" in neurai("rules").out


@pytest.mark.parametrize("name", ["/a/:fire:/x.npz", "/[bold]a[/bold]/x.npz", "/a/[/]/x.npz", "/:smile:[red].npz"])
def test_what_users_wrote_is_neither_markup_nor_emoji(neurai: Run, name: str) -> None:
    assert name in neurai("train", "--data", f"npz:{name}").err
    assert name in neurai("config", "show", "--data", f"npz:{name}").out

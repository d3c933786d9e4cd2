"""``neurai plot``: pictures by name, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

Run = Callable[..., Any]


def test_a_surrogate_is_drawn_with_its_settings(neurai: Run, tmp_path: Path) -> None:
    pictures = []
    for alpha in (1, 10):
        out = tmp_path / f"{alpha}.png"
        ended = neurai("plot", "surrogate", "superspike", "--set", f"alpha={alpha}", "--out", out)
        assert ended.code == 0 and ended.out.strip() == str(out), ended.err
        pictures.append(imread(out))
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()


def test_a_picture_without_a_name_lies_where_the_command_runs(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert neurai("plot", "surrogate", "atan", "erf").code == 0
    assert (tmp_path / "atan-erf.png").exists()


def test_all_draws_every_one(neurai: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.svg"
    ended = neurai("plot", "surrogate", "--all", "--out", out)
    assert ended.code == 0 and not ended.err
    import neurai_core

    drawn = out.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in drawn for name in neurai_core.names("surrogate"))


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "Which surrogates?", "--all"),
        (["atan", "--all"], "Which surrogates?", "--all"),
        (["superspik"], "superspik", "superspike"),
        (["atan", "--set", "alpha=0"], "alpha", "alpha: float > 0"),
        (["atan", "--set", "alpah=1"], "alpah", "alpha"),
        (["atan", "--set", "alpha"], "expected key=value", ""),
        (["atan", "erf", "--set", "alpha=1"], "a single surrogate", "superspike"),
        (["atan", "--out", "none/a.png"], "cannot be written", ""),
    ],
)
def test_what_is_wrong_is_said_with_a_way_out(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = neurai("plot", "surrogate", *words)
    assert ended.code != 0 and message in ended.err and hint in ended.err
    assert not list(tmp_path.iterdir())

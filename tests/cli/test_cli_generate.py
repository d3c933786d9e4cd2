"""`neurai generate` as its user meets it: after training a rule that runs both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.cli import main

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "both"
    words = ["train", "--rule", "bipc", "--model", "mlp:16,tanh", "--set", "n=2", "--epochs", "1", "--quiet"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_a_run_of_bipc_is_drawn_and_measured(neurai: Run, finished: Path) -> None:
    ended = neurai("generate", finished)
    assert ended.code == 0
    assert (finished / "generated.png").read_bytes().startswith(b"\x89PNG")
    for words in ("reconstruction from layer 2", "lower half filled in", "of 10 generated images are recognized"):
        assert words in ended.out


def test_both_ways_are_in_one_tree_that_resumes(neurai: Run, finished: Path, tmp_path: Path) -> None:
    before = (finished / "params.safetensors").read_bytes()
    assert neurai("train", "--resume", finished, "--quiet").code == 0
    assert (finished / "params.safetensors").read_bytes() == before
    assert b"['down']['b']" in before


def test_a_rule_that_generates_nothing_is_told_which_do(neurai: Run, tmp_path: Path) -> None:
    assert (
        neurai("train", "--rule", "bp", "--model", "mlp:8", "--epochs", "1", "-q", "--out", tmp_path / "bp").code == 0
    )
    ended = neurai("generate", tmp_path / "bp")
    assert ended.code == 2
    assert "'bp', which generates nothing" in ended.err and "Rules that do: bipc" in ended.err


def test_a_folder_without_a_finished_run_says_how_to_get_one(neurai: Run, finished: Path, tmp_path: Path) -> None:
    assert "holds no run" in neurai("generate", tmp_path).err
    (tmp_path / "config.toml").write_bytes((finished / "config.toml").read_bytes())
    ended = neurai("generate", tmp_path)
    assert (ended.code, f"neurai train --resume {tmp_path}" in ended.err) == (2, True)


def test_a_rule_brings_the_settings_that_suit_it(neurai: Run) -> None:
    shown = neurai("config", "show", "--rule", "bipc", "--json").json
    assert shown["loss"] == {"value": "sum_squared_error", "source": "rule bipc"}
    assert neurai("config", "show", "--rule", "bipc", "--loss", "mse", "--json").json["loss"]["source"] == "--loss"

"""`neurai plot relaxation` as its user meets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.cli import main

pytestmark = pytest.mark.usefixtures("quick_compile")
Run = Callable[..., Any]
SMALL = ("--model", "mlp:8", "--epochs", "1", "--batch-size", "100", "--quiet")
HOPFIELD = ("--set", "energy=hopfield", "--set", "activation=sigmoid", "--set", "dt=0.5", "--loss", "squared_error")


@pytest.fixture(scope="module")
def hopfield(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of equilibrium propagation."""
    folder = tmp_path_factory.mktemp("runs") / "ep"
    assert main(["train", "--rule", "ep", *HOPFIELD, *SMALL, "--out", str(folder)]) == 0
    return folder


def test_it_draws_both_phases_and_says_that_they_had_settled(neurai: Run, hopfield: Path) -> None:
    ended = neurai("plot", "relaxation", hopfield)
    assert ended.code == 0
    free, nudged, drawn = ended.out.splitlines()
    assert free.startswith("The free phase had settled: after 20 steps")
    assert nudged.startswith("The nudged phase had settled: after 20 steps")
    assert drawn == f"Drawn in {hopfield / 'relaxation.png'}"
    assert (hopfield / "relaxation.png").read_bytes().startswith(b"\x89PNG")


def test_fewer_steps_do_not_settle_and_the_cure_is_named(neurai: Run, hopfield: Path, tmp_path: Path) -> None:
    ended = neurai("plot", "relaxation", hopfield, "--steps", "2", "--out", tmp_path / "two.png", "--json")
    assert ended.json["picture"] == str(tmp_path / "two.png") and (tmp_path / "two.png").exists()
    assert "had not settled: after 2 steps" in ended.json["phases"][0]
    assert "Raise n_relax or dt" in ended.json["phases"][0]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["pc", "bipc"])
def test_every_rule_that_relaxes_is_drawn_and_judged_by_its_force(neurai: Run, tmp_path: Path, rule: str) -> None:
    words = ("--loss", "sum_squared_error", *(("--set", "tol=0.01") if rule == "pc" else ()))
    assert neurai("train", "--rule", rule, *words, *SMALL, "--out", tmp_path).code == 0
    inference, drawn = neurai("plot", "relaxation", tmp_path, "--steps", "8").out.splitlines()
    assert re.fullmatch(
        r"The inference phase had .*settled: after 8 steps .*% of its first force was left.*", inference
    )
    assert drawn == f"Drawn in {tmp_path / 'relaxation.png'}"


@pytest.mark.slow
def test_a_mode_without_a_relaxation_has_none_to_draw(neurai: Run, tmp_path: Path) -> None:
    assert neurai("train", "--set", "mode=exact", *SMALL, "--out", tmp_path).code == 0
    ended = neurai("plot", "relaxation", tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("error: The rule 'pc' has no relaxation to draw in mode exact.")


def test_what_cannot_be_drawn_is_said(neurai: Run, tmp_path: Path) -> None:
    ended = neurai("plot", "relaxation", tmp_path)
    assert ended.code != 0 and "holds no run" in ended.err
    assert neurai("train", "--rule", "bp", *SMALL, "--out", tmp_path / "bp").code == 0
    ended = neurai("plot", "relaxation", tmp_path / "bp")
    assert ended.code != 0 and "The rule 'bp' has no relaxation to draw" in ended.err
    assert "Rules that have: " in ended.err and all(rule in ended.err for rule in ("bipc", "ep", "pc"))

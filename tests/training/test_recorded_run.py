"""`neurai train --config` gives the numbers of runs that were recorded, on any processor.

The runs are in float64. ``golden/recorded_runs.json`` says where they were made and how to make them again, and
``golden/recorded_runs/`` holds their configurations as the runs wrote them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from neurai_core.cli import main
from neurai_core.training.record import CONFIG, METRICS, write_config
from neurai_core.training.run import PARAMS
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
RECORDED = json.loads((GOLDEN / "recorded_runs.json").read_text(encoding="utf-8"))
RULES = sorted(RECORDED["runs"])
RTOL = 1e-9

pytestmark = pytest.mark.usefixtures("x64")


def recorded_config(rule: str) -> Path:
    return GOLDEN / "recorded_runs" / f"{rule}.toml"


def without_versions(folder: Path) -> str:
    """The text of a configuration without its last table, the versions that wrote it."""
    return (folder / CONFIG).read_text(encoding="utf-8").partition("\n[record.versions]\n")[0]


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "step_ms"} for row in rows]


def sums(folder: Path) -> dict[str, list[float]]:
    """Of every array of parameters the sum of absolute values, and a sum that depends on the order."""
    arrays = {name: array.ravel() for name, array in load_file(folder / PARAMS).items()}
    assert {array.dtype for array in arrays.values()} == {np.dtype("float64")}
    return {name: [float(abs(a).sum()), float(a @ np.cos(np.arange(a.size)))] for name, a in sorted(arrays.items())}


@pytest.mark.parametrize("rule", RULES)
def test_a_recorded_configuration_gives_the_recorded_numbers(rule: str, tmp_path: Path) -> None:
    config, expected = recorded_config(rule), RECORDED["runs"][rule]
    assert main(["train", "--config", str(config), "--quiet", "--out", str(tmp_path)]) == 0
    assert without_versions(tmp_path) == config.read_text(encoding="utf-8")
    for row, recorded in zip(metrics(tmp_path), expected["metrics"], strict=True):
        assert row == pytest.approx(row | recorded, rel=RTOL)  # a rule may report more than it did
    found = sums(tmp_path)
    assert list(found) == list(expected["params"])
    for name, (size, mixed) in expected["params"].items():
        assert found[name] == pytest.approx([size, mixed], rel=RTOL, abs=RTOL * size), name


@pytest.mark.parametrize("rule", RULES)
def test_the_defaults_are_those_of_the_recorded_configuration(rule: str, tmp_path: Path) -> None:
    chosen = choose({"rule": rule, **RECORDED["given"]}, environ={})
    write_config(tmp_path, chosen, prepare(chosen))
    assert without_versions(tmp_path) == recorded_config(rule).read_text(encoding="utf-8")

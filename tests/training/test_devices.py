"""Training on several devices: the numbers of one, whatever the rule, and clear words where that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import NeurAIError, SettingsError
from neurai_core.registry import REGISTRY
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

OUTSIDER = "drtp"  # of neurai-target-projection, where that is installed
RULES = ["bp", "pc", "ep", *({OUTSIDER} & set(REGISTRY.names("algorithm")))]
CLAIMS = [
    *(f"as_on_one_device:{rule}" for rule in RULES),
    "in_float32:pc",
    "rows_from_files",
    "sharded_parameters",
    "moments_are_split_too",
    "a_run_goes_on",
    "sizes_that_do_not_divide",
    "idle_devices_are_told_of",
    "the_command_trains_on_all",
]


def on_four_devices(folder: Path, *claims: str) -> dict[str, str]:
    """What went wrong with claims about a process that has four devices."""
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = {**plain, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, str(Path(__file__).with_name("on_four_devices.py")), str(folder), *claims]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def failures(folder: Path) -> dict[str, str]:
    """One process for all claims, which shares what starting and compiling cost."""
    return on_four_devices(folder, *CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_on_four_devices(claim: str, failures: dict[str, str]) -> None:
    assert not failures[claim], failures[claim]


@pytest.mark.slow
def test_every_rule_gives_on_four_devices_the_numbers_of_one(tmp_path: Path) -> None:
    failed = {claim: error for claim, error in on_four_devices(tmp_path, "wide").items() if error}
    assert not failed, "\n".join(f"{claim}\n{error}" for claim, error in failed.items())


@pytest.mark.usefixtures("failures")
def test_a_run_on_four_devices_is_loaded_with_one(folder: Path) -> None:
    run = neurai.load_run(folder / "all")
    assert run.settings["devices"] == 2
    assert np.isfinite(run.predict(np.zeros((3, 64)))).all()


def test_fewer_devices_than_asked_for_are_counted() -> None:
    with pytest.raises(SettingsError, match=r"5 devices were requested, but JAX has 1 device \(cpu\)") as raised:
        prepare(choose({"devices": 5}, environ={}))
    assert "JAX_NUM_CPU_DEVICES=5" in raised.value.hint
    assert "XLA_FLAGS=--xla_force_host_platform_device_count=5" in raised.value.hint


@pytest.mark.parametrize("devices", [0, -1, "none", 1.5, True, "0"])
def test_a_number_of_devices_is_one_from_1_on_or_all(devices: object) -> None:
    with pytest.raises(SettingsError, match=r"devices.*expected a number of devices from 1 on, or all"):
        choose({"devices": devices}, environ={})


def test_parameters_are_not_split_over_one_device() -> None:
    with pytest.raises(SettingsError, match="--shard got shard=params, and a run without devices uses one") as raised:
        choose({"shard": "params"}, environ={})
    assert "--devices all" in raised.value.hint


def test_one_device_is_no_mesh_and_leaves_no_trace() -> None:
    flags = {"devices": "all", "shard": "params", "model": "mlp:4"}
    task = prepare(choose(flags, environ={}))
    assert task.mesh is None and task.shard is None


@pytest.mark.parametrize("setting", ["devices=2", "shard=params"])
def test_comparisons_and_sweeps_take_one_device(setting: str) -> None:
    from neurai_core.training.compared import plan as compared
    from neurai_core.training.swept import plan as swept

    with pytest.raises(NeurAIError, match=f"{setting.partition('=')[0]} is not a setting of a comparison"):
        compared(["bp", "pc"], {}, [setting], environ={})
    with pytest.raises(NeurAIError, match="a sweep does not use"):
        swept("bp", ["lr=0.1,0.2"], {}, [setting], environ={})
    alone = compared(["bp", "pc"], {}, environ={"NEURAI_DEVICES": "7", "NEURAI_SHARD": "params"})
    assert alone.rules["bp"].settings.devices == 1 and alone.rules["bp"].settings.shard is None

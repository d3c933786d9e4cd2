"""Runs that are stopped, killed or left by their reader: the right exit code, and nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neurai_core
from neurai_core.cli import main

SETTINGS = ("--rule", "bp", "--model", "mlp:8", "--epochs", "30", "--batch-size", "100")
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", *SETTINGS, "--quiet", "--out", str(folder)]) == 0
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    for name in ("params.safetensors", "checkpoints/step-000000420.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 30


class Raiser:
    """Sends this process a signal after a step in the middle of an epoch."""

    def __init__(self, signum: signal.Signals) -> None:
        self.signum = signum

    @neurai_core.hookimpl
    def neurai_after_step(self, step: int) -> None:
        if step == 40:
            signal.raise_signal(self.signum)


@pytest.mark.few(1)
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_saves_and_resumes_to_the_same_bits(
    neurai: Run, whole: Path, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    folder = tmp_path / "run"
    with neurai_core.observe(Raiser(signum)):
        ended = neurai("train", *SETTINGS, "--quiet", "--out", folder)
    assert ended.code == code
    assert f"stopped by {signum.name} after 41 steps" in ended.err
    assert f"neurai train --resume {folder}" in ended.err
    assert (folder / "learning_curve.png").exists()
    assert neurai("train", "--resume", folder, "--quiet").code == 0
    assert_same_run(folder, whole)


def test_a_run_that_is_killed_resumes_to_the_same_bits(neurai: Run, start: Run, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with start("train", *SETTINGS, "--out", folder) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "compiling...\n"
        assert any(line.startswith("epoch 1: ") for line in process.stderr)
        process.kill()
    assert not (folder / "params.safetensors").exists()
    assert neurai("train", "--resume", folder, "--quiet").code == 0
    assert_same_run(folder, whole)


def test_a_run_without_any_checkpoint_starts_again(neurai: Run, whole: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / ".step-000000014.safetensors.123").write_text("half of it")
    shutil.copy(whole / "config.toml", folder)
    assert neurai("train", "--resume", folder, "--quiet").code == 0
    assert_same_run(folder, whole)
    assert len(list((folder / "checkpoints").iterdir())) == 2


def test_a_signal_before_training_ends_with_its_exit_code(start: Run, tmp_path: Path) -> None:
    (tmp_path / "slow_net.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    with start("train", "--model", "slow_net.py:net", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in said) == (143, False)


def test_a_reader_that_leaves_is_no_error(start: Run) -> None:
    with start("rules") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""

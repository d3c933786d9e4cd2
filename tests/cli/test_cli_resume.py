"""Runs that go on only as they were, whatever happened to their folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.cli import main
from neurai_core.training.lock import LOCK, held

Run = Callable[..., Any]
SMALL = ("--rule", "bp", "--model", "mlp:8", "--epochs", "2", "--batch-size", "100", "--quiet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", *SMALL, "--every", "5", "--keep", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def half(finished: Path, tmp_path: Path) -> Path:
    """The run, killed in the middle of its second epoch."""
    folder = tmp_path / "half"
    shutil.copytree(finished, folder)
    (folder / "params.safetensors").unlink()
    (folder / "checkpoints" / "step-000000028.safetensors").unlink()
    return folder


def edited(folder: Path, old: str, new: str) -> None:
    config = folder / "config.toml"
    text = config.read_text(encoding="utf-8")
    assert old in text
    config.write_text(text.replace(old, new), encoding="utf-8")


def test_a_run_goes_on_from_the_middle_of_an_epoch(neurai: Run, finished: Path, half: Path) -> None:
    ended = neurai("train", "--resume", half, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    for name in ("params.safetensors", "checkpoints/step-000000028.safetensors"):
        assert (half / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lr = 0.002", "lr = 0.02", "lr was 0.002 and is 0.02"),
        ("seed = 0", "seed = 7", "seed was 0 and is 7"),
        ("batch_size = 100", "batch_size = 50", "batch_size was 100 and is 50"),
        ('optimizer = "adam"', 'optimizer = "sgd"', "optimizer was adam and is sgd"),
    ],
)
def test_an_edited_setting_is_shown_and_rejected(neurai: Run, half: Path, old: str, new: str, said: str) -> None:
    edited(half, old, new)
    ended = neurai("train", "--resume", half, "--quiet")
    assert ended.code == 2
    assert said in ended.err
    assert "--force" in ended.err


def test_more_is_compared_than_the_file_says(neurai: Run, half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    monkeypatch.setattr("neurai_core.training.record.importlib_metadata.version", lambda name: "9.9")
    with jax.default_matmul_precision("highest"):
        ended = neurai("train", "--resume", half, "--quiet")
    assert ended.code == 2
    for said in (
        "matmul_precision was default and is highest",
        "xla_flags was nothing and is --xla_cpu_multi_thread_eigen=false",
        "jaxlib was",
    ):
        assert said in ended.err
    with jax.enable_x64(True):
        assert "x64 was False and is True" in neurai("train", "--resume", half, "--quiet").err


def test_force_goes_on_and_says_so(neurai: Run, half: Path) -> None:
    edited(half, "seed = 0", "seed = 7")
    ended = neurai("train", "--resume", half, "--quiet", "--force")
    assert ended.code == 0
    assert "Going on although seed was 0 and is 7" in ended.err


def test_more_epochs_at_a_constant_rate_give_the_bits_of_a_run_that_had_them_from_the_start(
    neurai: Run, tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert neurai("train", *SMALL, "--schedule", "constant", "--out", folder).code == 0
    ended = neurai("train", "--resume", folder, "--epochs", "3", "--quiet", "--json")
    assert (ended.code, ended.json["steps"]) == (0, 42)
    assert neurai("train", *SMALL, "--schedule", "constant", "--epochs", "3", "--out", whole).code == 0
    for name in ("params.safetensors", "config.toml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    ended = neurai("train", "--resume", folder, "--epochs", "2")
    assert (ended.code, "--epochs is 2, and the run has 3." in ended.err) == (2, True)


def test_more_epochs_are_refused_if_the_learning_rate_depends_on_them(neurai: Run, half: Path) -> None:
    before = (half / "config.toml").read_bytes()
    ended = neurai("train", "--resume", half, "--epochs", "3")
    assert ended.code == 2
    assert "--epochs cannot be raised from 2 to 3: the learning rate falls to 0 over all of them" in ended.err
    assert (half / "config.toml").read_bytes() == before


def test_damaged_lines_are_said_and_block_nothing(neurai: Run, finished: Path, half: Path) -> None:
    metrics = half / "metrics.jsonl"
    metrics.write_bytes(b"\xff{broken\n" + metrics.read_bytes())
    (half / "config.toml").write_bytes(b"\xff\n" + (half / "config.toml").read_bytes())
    ended = neurai("train", "--resume", half, "--quiet")
    assert ended.code == 0
    assert "Line 1 of" in ended.err
    assert "config.toml was damaged" in ended.err
    assert len(metrics.read_text(encoding="utf-8").splitlines()) == 2
    for name in ("params.safetensors", "config.toml"):
        assert (half / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_whose_checkpoints_have_vanished_says_so(neurai: Run, finished: Path, half: Path) -> None:
    shutil.rmtree(half / "checkpoints")
    ended = neurai("train", "--resume", half, "--quiet")
    assert ended.code == 0
    assert "has no checkpoint left to continue from: the run starts over" in ended.err
    assert (half / "params.safetensors").read_bytes() == (finished / "params.safetensors").read_bytes()


def test_checkpoints_that_cannot_be_written_end_the_run_with_one_sentence(neurai: Run, half: Path) -> None:
    shutil.rmtree(half / "checkpoints")
    (half / "checkpoints").touch()
    ended = neurai("train", "--resume", half, "--quiet")
    assert (ended.code, "checkpoints cannot be made" in ended.err, "Traceback" in ended.err) == (2, True, False)
    assert not (half / LOCK).exists()


def test_one_process_trains_in_a_folder_and_the_lock_of_a_dead_one_is_taken_over(
    neurai: Run, half: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, time, pathlib; from neurai_core.training.lock import held\n"
        "with held(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(half)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        ended = neurai("train", "--resume", half, "--quiet")
        assert ended.code == 2
        assert f"process {process.pid} trains in it" in ended.err
        process.kill()
    assert (half / LOCK).exists()
    with held(half):
        assert (half / LOCK).read_text() == str(os.getpid())
    assert not (half / LOCK).exists()


# ---------------------------------------------------------------------------- code


@pytest.fixture
def named(neurai: Run, tmp_path: Path) -> Path:
    """A run whose model is in a file, which leaves a mark when it is run."""
    (tmp_path / "mine.py").write_text(
        "from neurai_core.layered import Layered, dense, flatten\nfrom pathlib import Path\n"
        "Path(__file__).with_suffix('.ran').touch()\nnet = Layered((flatten(), dense(10)))\n"
    )
    words = ("--rule", "bp", "--epochs", "1", "--quiet", "--out", tmp_path / "run")
    assert neurai("train", "--model", f"{tmp_path / 'mine.py'}:net", *words).code == 0
    (tmp_path / "mine.ran").unlink()
    return tmp_path


def test_code_that_a_run_names_is_run_if_it_is_what_was_recorded(neurai: Run, named: Path) -> None:
    assert neurai("train", "--resume", named / "run", "--quiet").code == 0
    assert (named / "mine.ran").exists()


@pytest.mark.few(2)
@pytest.mark.parametrize("way", ["--resume", "--config"])
def test_other_code_is_not_run_unless_it_is_trusted(neurai: Run, named: Path, way: str) -> None:
    (named / "mine.py").write_text((named / "mine.py").read_text() + "# changed\n")
    where = (named / "run") if way == "--resume" else (named / "run" / "config.toml")
    words = ("train", way, where, "--quiet", *(("--out", named / "again") if way == "--config" else ()))
    ended = neurai(*words)
    assert ended.code == 2
    assert f"{named / 'mine.py'} is not the one that it was recorded with" in ended.err
    assert "--trust" in ended.err
    assert not (named / "mine.ran").exists()
    ended = neurai(*words, "--trust", "--force")
    assert (ended.code, (named / "mine.ran").exists()) == (0, True)


def test_code_that_was_never_recorded_is_not_run(neurai: Run, named: Path) -> None:
    config = named / "run" / "config.toml"
    config.write_text("\n".join(line for line in config.read_text().splitlines() if "model_sha256" not in line))
    ended = neurai("train", "--config", config, "--out", named / "again", "--quiet")
    assert (ended.code, "was never recorded" in ended.err) == (2, True)
    assert not (named / "mine.ran").exists()


# ---------------------------------------------------------------------------- signals


@pytest.mark.few(1)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_code_swallows_while_it_is_imported_still_stops_the_run(
    start: Run, tmp_path: Path, signum: signal.Signals
) -> None:
    (tmp_path / "deaf.py").write_text(
        "import time\nfrom neurai_core.layered import Layered, dense, flatten\nnet = Layered((flatten(), dense(10)))\n"
        "try:\n    print('here', flush=True)\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
    )
    with start("train", "--model", "deaf.py:net", "--epochs", "500", "--out", "run", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signum)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in said, "epoch 1" in said) == (128 + signum, False, False)
    assert not (tmp_path / "run").exists()


def test_a_signal_that_becomes_another_exception_is_still_obeyed(start: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import time\ntry:\n    print('here', flush=True)\n    time.sleep(60)\n"
        "except BaseException:\n    raise ImportError('half imported') from None\n"
    )
    with start("train", "--model", "odd.py:net", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, "Interrupted" in said) == (130, True)


def test_a_command_obeys_a_signal_while_it_imports(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal, threading, time\n"
        "threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "from neurai_core.cli import main\n"
        "sys.exit(main(['train', '--epochs', '1000']))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode in (143, -signal.SIGTERM), done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60

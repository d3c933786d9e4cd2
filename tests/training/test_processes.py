"""Training in several processes of this machine: the numbers of one, one writer, and none left when one is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import NeurAIError
from neurai_core.registry import REGISTRY
from neurai_core.training.joining import COORDINATOR, NUMBER, PROCESSES
from neurai_core.training.rendezvous import meet

OUTSIDER = Path(__file__).parent.parent / "thirdparty" / "neurai-target-projection"
RULES = ("bp", "pc", "ep", "drtp")  # the last is the outsider's
CLAIMS = [
    *(f"as_one_process:{rule}" for rule in RULES),
    "each_reads_its_rows_of_a_batch",
    "split_parameters_are_saved_in_parts",
    "errors_of_one_end_all",
    "all_devices_are_needed",
    "an_observer_of_one_stops_all",
    "texts_of_any_length_are_gathered",
    "only_the_loopback_address_listens",
]
# A run that takes long enough to be interrupted.
LONG = ("--rule", "bp", "--model", "mlp:8", "--epochs", "60", "--every", "100", "--keep", "1000")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def site(folder: Path, version: str = "") -> str:
    """A folder in which the outsider is installed, perhaps in another version; empty where Python has it already."""
    if "drtp" in REGISTRY.names("algorithm") and not version:
        return ""
    project = tomllib.loads((OUTSIDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = OUTSIDER.name.replace("-", "_")
    shutil.copytree(OUTSIDER / package, folder / package)
    info = folder / f"{package}-{version or project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version or project['version']}\n"
    )
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    return str(folder)


def environment(*sites: str, **more: str) -> dict[str, str]:
    plain = {
        name: value for name, value in os.environ.items() if name != "XLA_FLAGS" and not name.startswith("NEURAI_")
    }
    path = os.pathsep.join([*filter(None, sites), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**plain, "JAX_PLATFORMS": "cpu", "NEURAI_CACHE": "off", "PYTHONPATH": path} | more


def by_hand(
    command: Sequence[str | Path], *sites: str, size: int = 2, **more: str
) -> list[subprocess.CompletedProcess[str]]:
    """How processes end that are started one by one, with the sites of each."""
    place = {COORDINATOR: f"127.0.0.1:{free_port()}", PROCESSES: str(size), **more}
    sites = sites if len(sites) == size else sites * size
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment(sites[number], **place, **{NUMBER: str(number)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(size)
    ]
    try:
        ended = [(process, *process.communicate(timeout=300)) for process in started]
    finally:
        for process in started:
            process.kill()
    return [subprocess.CompletedProcess(process.args, process.returncode, out, err) for process, out, err in ended]


def claims_in(folder: Path, claims: Sequence[str], size: int) -> dict[str, list[str]]:
    script = Path(__file__).with_name("in_several_processes.py")
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    ended = by_hand([script, folder, *claims], site(folder / "site"), size=size, **quick)
    assert [one.returncode for one in ended] == [0] * size, ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    told = [json.loads(one.stdout.splitlines()[-1]) for one in ended]
    return {claim: [one[claim] for one in told] for claim in claims}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes leave what they write."""
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def failures(together: Path) -> dict[str, list[str]]:
    """What went wrong with the claims in each of two processes, which share what starting and compiling cost."""
    return claims_in(together, CLAIMS, 2)


@pytest.mark.parametrize("claim", CLAIMS)
def test_in_two_processes(claim: str, failures: dict[str, list[str]]) -> None:
    for number, failed in enumerate(failures[claim]):
        assert not failed, f"process {number}: {failed}"


def test_parts_of_two_processes_go_on_in_one_from_the_newest_that_is_not_damaged(
    together: Path, failures: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    from neurai_core.cli import main

    folder = together / "split"
    whole = neurai.load_run(folder).params
    parts = (folder / "checkpoints" / "step-000000014.parts").rglob("*")
    largest = max((path for path in parts if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    assert main(["train", "--resume", str(folder), "--quiet", "--devices", "1", "--force"]) == 0
    said = capsys.readouterr().err
    assert f"{largest.name} is damaged: it does not have its SHA-256. The checkpoint before it is used." in said
    for one, other in zip(*map(jax.tree.leaves, (whole, neurai.load_run(folder).params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        "step-000000014.parts",
        "step-000000014.safetensors",
    ]


@pytest.mark.slow
def test_in_four_processes(tmp_path: Path) -> None:
    for claim, found in claims_in(tmp_path, CLAIMS, 4).items():
        assert not any(found), f"{claim}: {found}"


# ---------------------------------------------------------------------------- the commands


@contextmanager
def launched(*words: str | Path, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """``neurai launch`` with two processes."""
    call = [sys.executable, "-m", "neurai_core", "launch", *options, "--", "train"]
    process = subprocess.Popen(
        [*call, *map(str, words)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(map(int, found))


def until(condition: object, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end and process.poll() is None, process.communicate(timeout=10)
        time.sleep(0.02)


def steps_saved(folder: Path) -> int:
    found = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    return int(found[-1].stem.removeprefix("step-")) if found else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with launched(*LONG, "--json", "--out", folder) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert json.loads(out)["steps"] == 1320
    lines = err.splitlines()
    assert sum(line.startswith("epoch 60: ") for line in lines) == 1, err  # one process is heard
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of a job in Linux's /proc")
def test_a_killed_process_and_a_signal_leave_the_bits_of_the_run(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with launched(*LONG, "--out", folder, options=("--restarts", "1")) as process:
        until(lambda: steps_saved(folder) >= 200, process)
        before = children(process)
        os.kill(before[1], signal.SIGKILL)
        until(lambda: len(children(process)) == 2 and not {*children(process)} & {*before}, process, 30)
        reached = steps_saved(folder)
        until(lambda: steps_saved(folder) > reached, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Process 1 of 2 was killed by SIGKILL. Starting again from" in err
    assert "stopped by SIGTERM after" in err
    with launched("--resume", folder) as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    for name in ("params.safetensors", "checkpoints/step-000001320.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [
        *range(1, 61)
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of a job in Linux's /proc")
def test_a_process_that_is_stuck_ends_the_job_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with launched(*LONG, "--epochs", "5000", "--out", folder, options=("--heartbeat", "10")) as process:
        until(lambda: steps_saved(folder) >= 200, process)
        os.kill(children(process)[1], signal.SIGSTOP)
        begun = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10 + 15
    assert process.returncode == 3, err
    assert "Processes 0 and 1 of 2 have shown no sign of life" in err
    assert f"Continue with: neurai launch --processes 2 --heartbeat 10 -- train --resume {folder}" in err


def test_a_run_of_two_processes_goes_on_in_one(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neurai_core.cli import main

    folder = shutil.copytree(whole, tmp_path / "run")
    for path in (folder / "checkpoints").glob("step-*.safetensors"):
        if int(path.stem.removeprefix("step-")) > 1220:
            path.unlink()
    words = ["train", "--resume", str(folder), "--quiet", "--devices", "1"]
    assert main(words) == 2
    assert "devices was 2 and is 1" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert steps_saved(folder) == 1320


def test_different_plugins_and_settings_are_named(tmp_path: Path) -> None:
    sites = [site(tmp_path / str(number), version) for number, version in enumerate(("0.1.0", "0.1.1"))]
    command = ["-m", "neurai_core", "train", "--rule", "drtp", "--model", "mlp:8", "--quiet", "--out", tmp_path / "run"]
    first, second = by_hand(command, *sites)
    assert (first.returncode, second.returncode) == (2, 2), first.stderr + second.stderr
    assert "Processes 0 and 1 do not train the same: neurai-target-projection is 0.1.0 and 0.1.1." in first.stderr
    assert not (tmp_path / "run" / "config.toml").exists()


def alone(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    """One process of two, which waits a second for the other."""
    place = ("--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", *words, "--join-within", "1")
    call = [sys.executable, "-m", "neurai_core", "train", "--rule", "bp", *place]
    return subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=100)


def test_a_coordinator_that_does_not_answer_is_an_error() -> None:
    port = free_port()
    ended = alone(port, "--process-id", "1")
    assert ended.returncode == 1
    assert f"The coordinator 127.0.0.1:{port} did not answer within 1 s" in ended.stderr


def meeting(port: int, *others: tuple[int, int], patience: float = 1.0) -> dict[tuple[int, int], str]:
    """What processes ``(number, expected)`` are told that meet process 0 of three, itself ``(0, 3)``."""
    found: dict[tuple[int, int], str] = {}

    def come(number: int, processes: int) -> None:
        try:
            meet("127.0.0.1", port, processes, number, patience)
            found[number, processes] = ""
        except NeurAIError as error:
            found[number, processes] = error.message

    guests = [threading.Thread(target=come, args=one) for one in ((0, 3), *others)]
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.join()
    return found


def test_processes_that_all_come_meet() -> None:
    assert meeting(free_port(), (1, 3), (2, 3), patience=20.0) == {(0, 3): "", (1, 3): "", (2, 3): ""}


def test_a_process_that_does_not_come_is_named_to_all() -> None:
    assert meeting(free_port(), (2, 3)) == {
        (0, 3): "Process 1 of 3 did not come within 1 s.",
        (2, 3): "Process 2 cannot join the others: Process 1 of 3 did not come within 1 s.",
    }


def test_a_process_that_expects_others_cannot_join() -> None:
    told = meeting(free_port(), (1, 2))
    assert told[1, 2] == "Process 1 cannot join the others: it expects 2 processes, and process 0 expects 3."
    assert told[0, 3] == "Processes 1, 2 of 3 did not come within 1 s."


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert meeting(port)[0, 3] == f"Process 0 cannot listen at 127.0.0.1:{port}: Address already in use."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--coordinator", "here"), "expected HOST:PORT"),
        (("--coordinator", "127.0.0.1:4321"), "without --num-processes"),
        (("--coordinator", "127.0.0.1:4321", "--num-processes", "2"), "without --process-id"),
        (("--coordinator", "127.0.0.1:1", "--num-processes", "2", "--process-id", "2"), "expected 0 to 1"),
        (("--num-processes", "2"), "without --coordinator"),
    ],
)
def test_a_place_that_is_none_is_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurai_core.cli import main

    for name in (COORDINATOR, PROCESSES, NUMBER):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err

"""The processes of a job, watched: here small programs that train nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from neurai_core.cli import launching

Run = Callable[..., Any]

# What a process does, by its number; how often its job was started is in a file of the test.
WORDS = """
import os, signal, sys, time
from pathlib import Path
from neurai_core.training.heartbeat import own_heart
number = int(os.environ.get("NEURAI_PROCESS_ID", 0))
heart = own_heart(number)
here = Path(sys.argv[1])
with open(here / "starts", "a") as file:
    file.write(f"{number} {' '.join(sys.argv[2:])}\\n")
starts = sum(line.startswith(f"{number} ") for line in (here / "starts").read_text().splitlines())
def forever():
    while True:
        heart.beat()
        if heart.orphaned:
            sys.exit(143)
        time.sleep(0.05)
def saves(signum, frame):
    print(f"saved {number}", file=sys.stderr)
    sys.exit(128 + signum)
"""


@pytest.fixture
def launch(neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``neurai launch`` with processes that run a text of Python instead."""

    def run(text: str, *options: str, words: Sequence[str] = ("train", "--rule", "bp")) -> Any:
        command = [sys.executable, "-c", WORDS + text, str(tmp_path)]
        monkeypatch.setattr(launching, "python_command", lambda words: [*command, *words])
        monkeypatch.setattr("neurai_core.cli.job.GRACE", 1.0)
        return neurai("launch", *options, "--", *words)

    return run


def starts(folder: Path) -> list[str]:
    return sorted((folder / "starts").read_text().splitlines())


def test_all_processes_run_the_command_and_only_the_first_is_heard(launch: Run, tmp_path: Path) -> None:
    ended = launch("print('heard', number, file=sys.stderr)", "--processes", "3")
    assert (ended.code, ended.err) == (0, "heard 0\n")
    assert starts(tmp_path) == [f"{number} train --rule bp" for number in range(3)]


def test_every_process_knows_its_place_on_the_loopback_address(launch: Run, tmp_path: Path) -> None:
    said = (
        "(here / str(number)).write_text(os.environ['NEURAI_COORDINATOR'] + ' ' + os.environ['NEURAI_NUM_PROCESSES'])"
    )
    assert launch(said, "--processes", "2", "--port", "4321").code == 0
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == ["127.0.0.1:4321 2"] * 2


def test_a_killed_process_ends_the_job(launch: Run) -> None:
    begun = time.monotonic()
    ended = launch("os.kill(os.getpid(), signal.SIGKILL) if number == 1 else forever()")
    assert (ended.code, ended.err) == (3, "error: Process 1 of 2 was killed by SIGKILL. The job is ended.\n")
    assert time.monotonic() - begun < 15


def test_a_process_that_hangs_ends_the_job(launch: Run) -> None:
    ended = launch("heart.beat(); time.sleep(100) if number == 1 else forever()", "--heartbeat", "2")
    assert ended.code == 3
    assert "Process 1 of 2 has shown no sign of life for" in ended.err


def test_a_process_that_never_begins_ends_the_job(launch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurai_core.cli.job.STARTING", 3.0)
    ended = launch("time.sleep(100)", "--heartbeat", "1")
    assert ended.code == 3
    assert "Processes 0 and 1 of 2 have shown no sign of life" in ended.err


def test_an_error_ends_the_job_with_its_code_and_words(launch: Run) -> None:
    ended = launch("sys.exit('error: no such rule' if number else forever())", "--restarts", "2")
    assert ended.code == 1
    assert ended.err == "error: no such rule\nerror: Process 1 of 2 ended with exit code 1. The job is ended.\n"


def test_an_error_of_all_is_said_once(launch: Run) -> None:
    ended = launch("print('error: no such rule', file=sys.stderr); sys.exit(2)")
    assert ended.code == 2
    assert ended.err == "error: no such rule\nerror: Process 0 of 2 ended with exit code 2. The job is ended.\n"


def test_a_lost_process_is_replaced_and_the_run_continued(launch: Run, tmp_path: Path) -> None:
    dies = """
heart.tell_run(here / 'run')
if starts < 3:
    while number and not Path(os.environ['NEURAI_HEARTBEAT'], 'process-0').exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL) if number else forever()
"""
    words = ("train", "--rule", "bp", "--every", "5", "--quiet")
    ended = launch(dies, "--restarts", "2", words=words)
    assert ended.code == 0
    assert "Starting again from" in ended.err
    assert "0 restarts are left" in ended.err
    again = f"train --resume {tmp_path / 'run'} --every 5 --quiet"
    assert starts(tmp_path) == sorted(f"{n} {line}" for n in range(2) for line in (" ".join(words), again, again))


def test_restarts_are_bounded(launch: Run, tmp_path: Path) -> None:
    dies = "heart.tell_run(here / 'run'); os.kill(os.getpid(), signal.SIGKILL)"
    ended = launch(dies, "--restarts", "1", "--processes", "1")
    assert ended.code == 3
    assert f"Continue with: neurai launch --processes 1 -- train --resume {tmp_path / 'run'}" in ended.err
    assert len(starts(tmp_path)) == 2


def send_when_ready(folder: Path, signum: signal.Signals) -> None:
    """Send this process a signal once two processes are ready."""

    def send() -> None:
        while len(list(folder.glob("ready*"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signum)

    threading.Thread(target=send, daemon=True).start()


READY = "; (here / f'ready{number}').touch(); forever()"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_all_processes_once(launch: Run, tmp_path: Path, signum: signal.Signals, code: int) -> None:
    send_when_ready(tmp_path, signum)
    ended = launch(f"signal.signal({int(signum)}, saves)" + READY, "--restarts", "3")
    assert (ended.code, ended.err) == (code, "saved 0\n")


def test_a_signal_that_comes_before_a_process_can_handle_it_is_obeyed(launch: Run, tmp_path: Path) -> None:
    send_when_ready(tmp_path, signal.SIGTERM)
    assert launch("signal.signal(signal.SIGTERM, saves) if number else None" + READY).code == 143


def test_processes_end_when_nobody_watches_them(tmp_path: Path) -> None:
    environ = {**os.environ, "NEURAI_LAUNCHER": "1", "NEURAI_HEARTBEAT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WORDS + "forever()", str(tmp_path)], env=environ, timeout=30)
    assert done.returncode == 143


def test_other_commands_and_addresses_are_refused(launch: Run) -> None:
    ended = launch("", words=("compare", "bp", "pc"))
    assert (ended.code, "only train" in ended.err) == (2, True)
    ended = launch("", "--address", "203.0.113.7")
    assert ended.code == 2
    assert "neither encrypted nor authenticated" in ended.err
    assert "cannot listen at 203.0.113.7" in ended.err


def test_it_imports_no_jax() -> None:
    code = "import sys\nfrom neurai_core.cli.app import app\nprint('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr

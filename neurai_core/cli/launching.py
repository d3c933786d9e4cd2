"""``neurai launch``. It imports no JAX: the processes that it starts do."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from neurai_core.cli.job import Ending, Job, python_command
from neurai_core.cli.output import note, stderr
from neurai_core.errors import NeurAIError, OutputError, UsageError
from neurai_core.training.heartbeat import VARIABLE, WATCHER, run_told
from neurai_core.training.joining import COORDINATOR, NUMBER, OPEN_TRAFFIC, PROCESSES, is_loopback
from neurai_core.training.stopping import StopRequest, stop_on_signals

LOOPBACK = "127.0.0.1"
# Options of `train` that --resume takes too, and whether a value follows.
_KEPT = {
    "--every": 1,
    "--keep": 1,
    "--devices": 1,
    "--join-within": 1,
    "--json": 0,
    "--quiet": 0,
    "-q": 0,
    "--force": 0,
}
HEARTBEAT = 60.0
_EXAMPLE = "For example: neurai launch --processes 2 -- train --epochs 5"


class JobFailed(NeurAIError):
    """A job ended before its time.

    Args:
        ending: how.
        hint: what to do about it.
    """

    def __init__(self, ending: Ending, hint: str) -> None:
        super().__init__(f"{ending.reason} The job is ended.", hint)
        self.exit_code = ending.code


def launch(
    command: Annotated[
        list[str], typer.Argument(metavar="-- train ...", help="The command that every process runs, with its options.")
    ],
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="Number of processes, all on this machine.")
    ] = 2,
    address: Annotated[
        str, typer.Option(metavar="HOST", help="Address of this machine at which process 0 listens for the others.")
    ] = LOOPBACK,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Its port.", show_default="a free one")
    ] = None,
    restarts: Annotated[
        int, typer.Option(metavar="K", min=0, help="How many times to restart after a process is lost.")
    ] = 0,
    heartbeat: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1.0,
            help="Time without a sign of life after which a process counts as stuck; has to be longer than a step and "
            "than an evaluation. Ten times as long until training begins.",
        ),
    ] = HEARTBEAT,
) -> None:
    """Train with several processes of this machine that share every batch, and watch them.

    A process that dies or gets stuck ends the job, with exit code 3. With --restarts, it then continues from its
    newest checkpoint, bit for bit. Ctrl-C and SIGTERM are passed on: all processes stop at the same step and are saved.
    """
    if command[0] != "train":
        raise UsageError(f"Several processes cannot run {command[0]!r}, only train.", _EXAMPLE)
    if not is_loopback(address):
        note(OPEN_TRAFFIC)
    with tempfile.TemporaryDirectory(prefix="neurai-launch-") as scratch, stop_on_signals() as asked:
        place, words = Path(scratch), command
        for left in range(restarts, -1, -1):
            environments = _environments(processes, address, _port(address, port), place)
            ending = _run(words, environments, place, heartbeat, asked)
            folder = run_told(place)
            words = _continued(command, folder)
            if not (ending.lost and left) or asked():
                break
            note(f"{ending.reason} Starting again{f' from {folder}' if folder else ''}; {left - 1} restarts are left.")
    if ending.reason:
        own = {"--address": (address, LOOPBACK), "--port": (port, None), "--heartbeat": (heartbeat, HEARTBEAT)}
        options = [text for name, (given, usual) in own.items() if given != usual for text in (name, _plain(given))]
        again = shlex.join(["neurai", "launch", "--processes", str(processes), *options, "--", *words])
        raise JobFailed(ending, f"Continue with: {again}" if folder and ending.lost else "")
    raise typer.Exit(ending.code)


def _plain(given: str | float | None) -> str:
    return f"{given:g}" if isinstance(given, float) else str(given)


def _run(
    words: Sequence[str], environments: Sequence[dict[str, str]], place: Path, heartbeat: float, asked: StopRequest
) -> Ending:
    with Job(python_command(words), environments, place, heartbeat, _show) as job:
        ending = job.wait(asked)
    for line in ending.words:
        _show(f"{line}\n")
    return ending


def _show(line: str) -> None:
    console = stderr()
    console.file.write(line)
    console.file.flush()


def _environments(processes: int, address: str, port: int, place: Path) -> list[dict[str, str]]:
    """What every process finds in its environment."""
    watched = {VARIABLE: str(place), WATCHER: str(os.getpid())}
    if processes == 1:
        return [watched]
    host = f"[{address}]" if ":" in address else address
    together = {COORDINATOR: f"{host}:{port}", PROCESSES: str(processes)}
    return [watched | together | {NUMBER: str(number)} for number in range(processes)]


def _port(address: str, given: int | None) -> int:
    """The port, or a free one: others may take it before process 0 does, which then says so."""
    if given is not None:
        return given
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as one:
            one.bind(where)
            return int(one.getsockname()[1])
    except OSError as error:
        raise OutputError(
            f"Process 0 cannot listen at {address}: {error.strerror or error}.", "Give an address of this machine."
        ) from error


def _continued(command: Sequence[str], folder: str) -> list[str]:
    """The command that continues the run in a folder; the same command if there is none yet."""
    if not folder or any(word.partition("=")[0] == "--resume" for word in command):
        return list(command)
    return ["train", "--resume", folder, *_kept(command[1:])]


def _kept(words: Sequence[str]) -> Iterator[str]:
    """The options among words that also hold for a run that goes on.

    >>> [*_kept(["--lr", "0.1", "--every", "50", "--keep=3", "--quiet"])]
    ['--every', '50', '--keep=3', '--quiet']
    """
    left = iter(words)
    for word in left:
        name, equals, _ = word.partition("=")
        if name in _KEPT:
            yield word
            if _KEPT[name] and not equals:
                yield next(left, "")

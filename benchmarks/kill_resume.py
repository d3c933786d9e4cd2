"""Does a run that is killed again and again end in the same bits? `kill -9` at random moments, inside saves too.

    python benchmarks/kill_resume.py [--processes 2] [--kills 30] [--every 5] [--seed 0] [--json kills.json]
        [-- OPTIONS OF TRAIN]

`neurai train` is killed, continues with --resume, and is killed again, until it ends; then the next run begins. Every
third kill waits until a checkpoint is being written; the others come at a random moment from the start of the process
on. Every run that ends is compared with one that was left alone: parameters, last checkpoint, metrics. With several
processes, those of `neurai launch`, the first, the last, or both are killed, as chance has it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import timing

WORDS = ("--data", "digits", "--model", "mlp:256,64,relu", "--epochs", "10")
LOST = 3  # the exit code of a job that lost a process


class Trained:
    """`neurai train` under way, in one process or several.

    Args:
        words: options of train.
        folder: of the run.
        size: how many processes.
    """

    def __init__(self, words: list[str], folder: Path, size: int) -> None:
        launched = ["launch", "--processes", str(size), "--"] if size > 1 else []
        command = [sys.executable, "-m", "neurai_core", *launched, "train", *words, "--quiet"]
        self._folder, self._size = folder / "checkpoints", size
        self._before = self._unfinished()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)

    def ended(self) -> tuple[int, str]:
        """The exit code, and what was said."""
        _, said = self.process.communicate()
        return self.process.returncode, said.decode()

    def killed(self, moment: float | None, draw: random.Random) -> bool:
        """Kill after so many seconds, or while a checkpoint is written; False if it ended before."""
        start = time.perf_counter()
        while self.process.poll() is None:
            workers = [self.process.pid] if self._size == 1 else _children(self.process.pid)
            due = self.saves() if moment is None else time.perf_counter() - start >= moment
            if workers and due:
                writers = [workers[:1], workers]
                return self._kill(draw.choice(writers if moment is None else [*writers, workers[-1:]]))
        return False

    def saves(self) -> bool:
        """Whether a checkpoint is being written: there is a file, or a folder, beside its place."""
        return bool(self._unfinished() - self._before)

    def _kill(self, workers: list[int]) -> bool:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        return self.process.wait() in (-signal.SIGKILL, LOST)

    def _unfinished(self) -> set[tuple[str, int]]:
        """Incomplete checkpoints, also those that are left over from a process that was killed."""
        try:
            with os.scandir(self._folder) as entries:
                return {(one.name, one.inode()) for one in entries if one.name.startswith(".step-")}
        except FileNotFoundError:
            return set()


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def ended_as(folder: Path) -> dict[str, Any]:
    """What must be the same: the bytes of parameters and last checkpoint, and the metrics without times.

    Not those of a checkpoint in parts, because files of orbax hold the time.
    """
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = max((folder / "checkpoints").glob("step-*"))
    return {
        "params": (folder / "params.safetensors").read_bytes(),
        last.name: last.read_bytes() if last.is_file() else b"",
        "metrics": [{key: value for key, value in row.items() if key != "step_ms"} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--every", default="5", help="steps between two checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("words", nargs="*", help="options of neurai train, after --")
    given = parser.parse_args()
    draw, words = random.Random(given.seed), [*(given.words or WORDS), "--every", given.every]
    counts = {"kills": 0, "inside saves": 0, "before the first step": 0, "runs": 0, "runs with other bits": 0}
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        check(Trained([*words, "--out", f"{place}/whole"], Path(place, "whole"), given.processes))
        longest, whole = time.perf_counter() - start, ended_as(Path(place, "whole"))
        while counts["kills"] < given.kills:
            folder = Path(place, f"run-{counts['runs']}")
            while counts["kills"] < given.kills and killed(folder, words, given.processes, counts, draw, longest):
                continue
            check(begun(folder, words, given.processes))  # also what has ended goes on, to nothing more
            same = ended_as(folder) == whole
            counts["runs"] += 1
            counts["runs with other bits"] += not same
            print(f"{'the same bits' if same else 'OTHER BITS'}: {counts}", flush=True)
            timing.write(given.json, counts)
    sys.exit(1 if counts["runs with other bits"] else 0)


def begun(folder: Path, words: list[str], size: int) -> Trained:
    """The run in a folder, which goes on if there is one."""
    resumes = (folder / "config.toml").exists()
    return Trained(["--resume", str(folder), *words[-2:]] if resumes else [*words, "--out", str(folder)], folder, size)


def killed(
    folder: Path, words: list[str], size: int, counts: dict[str, int], draw: random.Random, longest: float
) -> bool:
    """Kill a run at the next moment, and count; False if it ended before."""
    trained = begun(folder, words, size)
    if not trained.killed(None if counts["kills"] % 3 == 2 else draw.uniform(0, longest), draw):
        check(trained)
        return False
    counts["kills"] += 1
    counts["inside saves"] += trained.saves()
    counts["before the first step"] += not (folder / "checkpoints").exists()
    return True


def check(trained: Trained) -> None:
    """Wait for the end, which must be a good one."""
    code, said = trained.ended()
    if code:
        raise SystemExit(f"neurai train ended with {code}:\n{said}")


if __name__ == "__main__":
    main()

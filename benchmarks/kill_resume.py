"""Does a run that is killed again and again end in the same bits? `kill -9` at random moments, inside saves too.

    python benchmarks/kill_resume.py [--kills 30] [--every 5] [--seed 0] [--json kills.json] [-- OPTIONS OF TRAIN]

`neurai train` is killed, goes on with --resume, and is killed again, until it ends; then the next run begins. Every
third kill waits until a checkpoint is being written; the others come at a random moment from the start of the process
on. Every run that ends is compared with one that was left alone: parameters, last checkpoint, metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timing

WORDS = ("--data", "digits", "--model", "mlp:256,64,relu", "--epochs", "10")


def begun(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neurai_core", "train", *words, "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def is_saving(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process writes a checkpoint: there is a file beside its place."""
    try:
        names = os.listdir(folder / "checkpoints")
    except FileNotFoundError:
        return False
    return any(name.startswith(".step-") and name.endswith(f".{process.pid}") for name in names)


def killed(process: subprocess.Popen[bytes], moment: float | None, folder: Path) -> bool:
    """Kill a process after so many seconds, or while it saves; False if it ended before."""
    start = time.perf_counter()
    while process.poll() is None:
        if is_saving(folder, process) if moment is None else time.perf_counter() - start >= moment:
            process.kill()
            process.wait()
            return process.returncode == -9
    return False


def ended_as(folder: Path) -> dict[str, Any]:
    """What must be the same: the bytes of parameters and last checkpoint, and the metrics without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = max((folder / "checkpoints").glob("step-*.safetensors"))
    return {
        "params": (folder / "params.safetensors").read_bytes(),
        last.name: last.read_bytes(),
        "metrics": [{key: value for key, value in row.items() if key != "step_ms"} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        begun([*words, "--out", f"{place}/whole"]).wait()
        longest, whole = time.perf_counter() - start, ended_as(Path(place, "whole"))
        while counts["kills"] < given.kills:
            folder = Path(place, f"run-{counts['runs']}")
            finish(folder, words, given.kills, counts, draw, longest)
            same = ended_as(folder) == whole
            counts["runs"] += 1
            counts["runs with other bits"] += not same
            print(
                f"{counts['kills']} kills, run {counts['runs']}: {'the same bits' if same else 'OTHER BITS'}",
                flush=True,
            )
    print(counts)
    timing.write(given.json, counts)
    sys.exit(1 if counts["runs with other bits"] else 0)


def finish(
    folder: Path, words: list[str], kills: int, counts: dict[str, int], draw: random.Random, longest: float
) -> None:
    """Bring a run to its end, through kills."""
    while True:
        resumes = (folder / "config.toml").exists()
        process = begun(["--resume", str(folder)] if resumes else [*words, "--out", str(folder)])
        if counts["kills"] >= kills:
            _, said = process.communicate()
        else:
            in_a_save = counts["kills"] % 3 == 2
            if killed(process, None if in_a_save else draw.uniform(0, longest), folder):
                counts["kills"] += 1
                counts["inside saves"] += is_saving(folder, process)
                counts["before the first step"] += not (folder / "checkpoints").exists()
                continue
            _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"neurai train ended with {process.returncode}:\n{said.decode()}")
        return


if __name__ == "__main__":
    main()

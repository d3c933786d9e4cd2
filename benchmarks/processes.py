"""How long does a step take in two processes of this machine, compared with one, at equal total batch?

Fresh processes take turns: one on all cores, one on a single core, two of `neurai launch` on all cores. Prints the time
of a step, which includes what processes exchange, and ratios to one process on all cores; writes JSON.

    python benchmarks/processes.py --model mlp:512,512 --batch-size 512 --rounds 5 --json processes.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import timing

ROOT = Path(__file__).resolve().parent.parent


def step_seconds(processes: int, words: list[str], cores: set[int]) -> float:
    """The mean time of a step of one run, as the run itself reports it."""
    launched = ["launch", "--processes", str(processes), "--"] if processes > 1 else []
    with TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "neurai_core", *launched, "train", *words, "--json", "--quiet"]
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [*call, "--out", str(Path(folder, "run"))],
            env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    return float(json.loads(done.stdout)["step_ms"]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=["bp", "pc"], help="learning rules")
    parser.add_argument("--model", default="mlp:512,512")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    cores = os.sched_getaffinity(0)
    ways = {
        "one process": (1, cores),
        "one process on one core": (1, {min(cores)}),
        "two processes": (2, cores),
    }
    results = {}
    for rule in given.rules:
        words = ["--rule", rule, "--model", given.model, "--batch-size", str(given.batch_size)]
        words += ["--epochs", str(given.epochs)]
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, (processes, held) in ways.items():
                seconds[name].append(step_seconds(processes, words, held))
        results[rule] = timing.ratios(seconds, "one process")
        timing.report(f"{rule}, {given.model}, batch {given.batch_size}, {len(cores)} cores", results[rule])
    timing.write(given.json, results)


if __name__ == "__main__":
    main()

"""How fast are others at strict predictive coding? One training step side by side, each in its own interpreter.

python benchmarks/pc_peers.py [--fabricpc PYTHON] [--pcx PYTHON] [--jpc PYTHON] [--torch PYTHON] [--json FILE]

Every option takes the Python of an environment in which that library is installed; what is not given is skipped,
and said so. The environments are the reader's own, for example

python -m venv peers/fabricpc && peers/fabricpc/bin/python -m pip install fabricpc==0.6.0      (its own JAX)
python -m venv peers/pcx      && peers/pcx/bin/python      -m pip install pcx==0.6.3           (jax < 0.5)
python -m venv peers/jpc      && peers/jpc/bin/python      -m pip install 'jax<=0.5.2' equinox diffrax optax PATH_OF_JPC
python -m venv peers/torch    && peers/torch/bin/python    -m pip install torch==2.13.0 numpy

A step: 20 sweeps at eta = 0.1, gradients, one SGD update; batch 128, relu, half squared error, float32, one core. The
workers in ``peers/`` run in turn, round after round; what is compared is processor time, its minimum and median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent / "peers"
PEERS = ("fabricpc", "pcx", "jpc", "torch")
NETS = {"784-256-256-10": (784, 256, 256, 10), "784, 19 x 128, 10 (20 layers)": (784, *[128] * 19, 10)}
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}


class Worker:
    """A worker process: it builds its steps, says their names, and times one whenever it is told to."""

    def __init__(self, name: str, python: str, problem: Any, threads: int = 1) -> None:
        command = [python, str(FOLDER / f"{name}_worker.py"), json.dumps(problem)]
        env = os.environ | ALONE | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.steps: dict[str, Any] = self._answer()

    def time(self, step: str, kind: str = "seconds") -> float:
        """Seconds of processor time per call, or of the clock."""
        assert self.process.stdin is not None
        print(json.dumps(step), file=self.process.stdin, flush=True)
        return float(self._answer()[kind])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"{self.process.args} ended with {self.process.wait()} and no answer.")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def started(pythons: dict[str, str], sizes: tuple[int, ...]) -> Iterator[dict[str, Worker]]:
    """All workers for one network."""
    workers = {name: Worker(name, python, sizes) for name, python in pythons.items()}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()


def compare(pythons: dict[str, str], sizes: tuple[int, ...], rounds: int) -> dict[str, dict[str, Any]]:
    """Every step of every worker, in turn; ratios are to our strict rule in the same round."""
    with started(pythons, sizes) as workers:
        steps = [(worker, name, facts) for worker in workers.values() for name, facts in worker.steps.items()]
        seconds: dict[str, list[float]] = {name: [] for _, name, _ in steps}
        for _ in range(rounds):
            for worker, name, _ in steps:
                seconds[name].append(worker.time(name))
    base = seconds["neurai strict"]
    return {
        name: {
            "ms_min": 1e3 * min(seconds[name]),
            "ms_median": 1e3 * median(seconds[name]),
            "ratio_min": min(seconds[name]) / min(base),
            "ratio_median": median(s / b for s, b in zip(seconds[name], base, strict=True)),
            **facts,
        }
        for _, name, facts in steps
    }


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    print(f"\n{title}\n  {'':36}{'ms min':>9}{'median':>9}{'of strict':>11}{'median':>9}{'compile s':>11}  versions")
    for name, row in rows.items():
        compile_s = f"{row['compile_s']:.1f}" if row["compile_s"] else "-"
        print(
            f"  {name:36}{row['ms_min']:9.2f}{row['ms_median']:9.2f}{row['ratio_min']:11.2f}{row['ratio_median']:9.2f}"
            f"{compile_s:>11}  {row['versions']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"interpreter that has {peer}")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the workers inherit it
    given = {peer: getattr(args, peer) for peer in PEERS}
    for peer in (peer for peer, python in given.items() if python is None):
        print(f"{peer} is skipped: give the Python of its environment as --{peer}.")
    pythons = {"neurai": sys.executable} | {peer: python for peer, python in given.items() if python}
    results = {title: compare(pythons, sizes, args.rounds) for title, sizes in NETS.items()}
    for title, rows in results.items():
        show(title, rows)
    if args.json:
        Path(args.json).write_text(json.dumps({"python": platform.python_version(), "results": results}, indent=2))


if __name__ == "__main__":
    main()

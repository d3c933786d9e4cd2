"""How fast are convolutional networks? Training steps beside loops in torch, each in its own interpreter.

python benchmarks/conv_peers.py --torch PYTHON [--pcx PYTHON] [--fabricpc PYTHON] [--cores 2] [--nets LeNet,VGG] \
    [--json FILE]

Every option takes the Python of an environment with that library, for example

python -m venv peers/torch && peers/torch/bin/python -m pip install torch==2.13.0 numpy

and those of pc_peers.py. What is not given is left out.

A step: gradients and one SGD update, batch 64, float32, half squared error. Predictive coding takes 20 sweeps; its
activities are those of every layer, or with ``fuse`` those of layers with parameters. Equilibrium propagation takes 20
steps for the free phase, 20 more, and 20 for the nudged one. Steps run in turn, round after round; what is compared is
processor time on one core, and time of the clock on more. Ratios are to the first step of the same kind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from statistics import median
from typing import Any

from pc_peers import Worker

PEERS = ("torch", "pcx", "fabricpc")
KINDS = ("bp", "pc strict", "ep hopfield")


def compare(pythons: dict[str, str], problem: tuple[str, str], rounds: int, cores: int) -> dict[str, dict[str, Any]]:
    """Every step of every worker, in turn."""
    workers = [Worker(name, python, problem, cores) for name, python in pythons.items()]
    steps = [(worker, name) for worker in workers for name in worker.steps]
    kind = "seconds" if cores == 1 else "clock"
    seconds: dict[str, list[float]] = {name: [] for _, name in steps}
    for _ in range(rounds):
        for worker, name in steps:
            seconds[name].append(worker.time(name, kind))
    for worker in workers:
        worker.end()
    rows: dict[str, dict[str, Any]] = {}
    for what in KINDS:
        ours = [name for name in seconds if name.split(" ", 1)[1].startswith(what)]
        for name in ours:
            base = seconds[ours[0]]
            rows[name] = {
                "ms_min": 1e3 * min(seconds[name]),
                "ms_median": 1e3 * median(seconds[name]),
                "ratio_min": min(seconds[name]) / min(base),
                "ratio_median": median(s / b for s, b in zip(seconds[name], base, strict=True)),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"interpreter that has {peer}")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--nets", default="LeNet,VGG")
    parser.add_argument("--pools", default="average,max")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])  # the workers inherit it
    given = {f"{peer}_conv": getattr(args, peer) for peer in PEERS}
    pythons = {"neurai_conv": sys.executable} | {name: python for name, python in given.items() if python}
    results = {}
    for net in args.nets.split(","):
        for pool in args.pools.split(","):
            title = f"{net}, {pool} pooling, {args.cores} core{'s' * (args.cores > 1)}"
            results[title] = compare(pythons, (net, pool), args.rounds, args.cores)
            print(f"\n{title}\n  {'':36}{'ms min':>9}{'median':>9}{'ratio':>9}{'median':>9}")
            for name, row in results[title].items():
                print(f"  {name:36}" + "".join(f"{value:9.2f}" for value in row.values()), flush=True)
    if args.json:
        Path(args.json).write_text(
            json.dumps({"python": platform.python_version(), "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

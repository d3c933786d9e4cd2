"""How fast are spiking convolutional networks? Training steps beside other libraries, each in its own interpreter.

python benchmarks/snn_conv_peers.py --torch PYTHON [--cores 2] [--pools average,max] [--json FILE]

``--torch`` takes the Python of an environment with torch and the peers, for example

python -m venv peers/snn && peers/snn/bin/python -m pip install torch==2.13.0 norse==1.1.0 snntorch==1.0.0 \\
    spikingjelly==2.0.0

The network is 12C5-P2-32C5-P2-10 without padding and biases on 28x28x1 spikes, 25 steps, batch 64, float32. A step:
back-propagation through time and one update by Adam; the mean rate of the outputs, cross entropy. Steps run in turn,
round after round; what is compared is processor time on one core, and time of the clock on more. Ratios are to this
library as it is by default.
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


def compare(pythons: dict[str, str], pool: str, rounds: int, cores: int) -> dict[str, dict[str, Any]]:
    """Every step of every worker, in turn."""
    workers = [Worker(name, python, pool, cores) for name, python in pythons.items()]
    steps = [(worker, name) for worker in workers for name in worker.steps]
    kind = "seconds" if cores == 1 else "clock"
    seconds: dict[str, list[float]] = {name: [] for _, name in steps}
    for _ in range(rounds):
        for worker, name in steps:
            seconds[name].append(worker.time(name, kind))
    print(*(next(iter(worker.steps.values()))["versions"] for worker in workers), sep="\n")
    for worker in workers:
        worker.end()
    base = seconds["neurai"]
    return {
        name: {
            "ms_min": 1e3 * min(own),
            "ms_median": 1e3 * median(own),
            "ratio_min": min(own) / min(base),
            "ratio_median": median(s / b for s, b in zip(own, base, strict=True)),
        }
        for name, own in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter that has torch and the peers")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--pools", default="average,max")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])  # the workers inherit it
    pythons = {"neurai_snn": sys.executable} | ({"torch_snn": args.torch} if args.torch else {})
    results = {}
    for pool in args.pools.split(","):
        title = f"{pool} pooling, {args.cores} core{'s' * (args.cores > 1)}"
        print(f"\n{title}")
        results[title] = compare(pythons, pool, args.rounds, args.cores)
        print(f"  {'':36}{'ms min':>9}{'median':>9}{'ratio':>9}{'median':>9}")
        for name, row in results[title].items():
            print(f"  {name:36}" + "".join(f"{value:9.2f}" for value in row.values()), flush=True)
    if args.json:
        Path(args.json).write_text(
            json.dumps({"python": platform.python_version(), "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

"""What do libraries of predictive coding reach on the same work? One network, trained to the end by each of them.

python benchmarks/pc_training.py [--fabricpc PYTHON] [--pcx PYTHON] [--epochs 20] [--seeds 5] [--json FILE]

784-256-64-10 on Fashion-MNIST with cross entropy, batches of 200, AdamW with a learning rate and a weight decay of
1e-3; the same He-normal weights and the same order of the examples for everybody. Strict relaxations take 20 sweeps at
eta = 0.05; relaxations of errors take each library's defaults. Both have the sigmoids of FabricPC's own comparison.

Both options take the Python of an environment in which that library is installed, as pc_peers.py says; what is not
given is skipped, and said so. Seconds are those of the training epochs on one core, without the first, which compiles;
the libraries take turns. Trainings that stand in the JSON file already are not run again, so an interrupted benchmark
goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from pc_peers import ALONE, FOLDER
from timing import write

import neurai_core as neurai

SIZES = (784, 256, 64, 10)
METHODS = {
    "neurai": (("bp", "relu"), ("strict", "sigmoid"), ("error", "sigmoid"), ("defaults", "relu")),
    "fabricpc": (("bp", "relu"), ("strict", "sigmoid"), ("error", "sigmoid")),
    "pcx": (("strict", "sigmoid"),),
}


def train(library: str, python: str, work: dict[str, Any]) -> dict[str, list[float]]:
    """Accuracies and seconds of every epoch."""
    command = [python, str(FOLDER / f"{library}_training.py"), json.dumps(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | ALONE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def save(path: Path) -> None:
    """Fashion-MNIST as the workers read it."""
    data = neurai.dataset("fashion-mnist")
    x, x_test = (np.asarray(part, np.float32).reshape(len(part), -1) for part in (data.x_train, data.x_test))
    np.savez(path, x=x, y=np.asarray(data.y_train), x_test=x_test, y_test=np.asarray(data.y_test))


def table(results: dict[str, Any]) -> str:
    """Mean and standard deviation of the accuracy at the end, and the median epoch."""
    rows: dict[tuple[str, ...], list[Any]] = {}
    for name, found in results.items():
        rows.setdefault(tuple(name.split(" | ")[:3]), []).append(found)
    lines = ["| library | rule | hidden layers | test accuracy | s per epoch |", "| --- | --- | --- | ---: | ---: |"]
    for names, found in rows.items():
        ends = [100 * one["accuracies"][-1] for one in found]
        spread = f" ± {stdev(ends):.2f}" if len(ends) > 1 else ""
        seconds = median(second for one in found for second in one["seconds"][1:] or one["seconds"])
        lines.append(f"| {' | '.join(names)} | {mean(ends):.2f}{spread} | {seconds:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fabricpc", help="a Python with FabricPC")
    parser.add_argument("--pcx", help="a Python with pcx")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file, and go on from those that stand there")
    args = parser.parse_args()
    pythons = {"neurai": sys.executable, "fabricpc": args.fabricpc, "pcx": args.pcx}
    for name in [name for name, python in pythons.items() if not python]:
        print(f"{name} is skipped: no --{name} PYTHON.")
        del pythons[name]
    results: dict[str, Any] = {}
    if args.json and Path(args.json).exists():
        results = json.loads(Path(args.json).read_text())["results"]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "fashion.npz"
        save(data)
        most = max(map(len, METHODS.values()))
        for seed, number, library in product(range(args.seeds), range(most), pythons):
            if number < len(METHODS[library]):
                method, activation = METHODS[library][number]
                name = f"{library} | {method} | {activation} | {seed}"
                if name not in results:
                    work = {"method": method, "activation": activation, "sizes": SIZES, "seed": seed}
                    results[name] = train(library, pythons[library], {**work, "epochs": args.epochs, "data": str(data)})
                    write(args.json, results)
    print(table(results))


if __name__ == "__main__":
    main()

"""How much of a step of strict predictive coding and of equilibrium propagation are products that it cannot avoid?

python benchmarks/conv_floor.py --torch PYTHON [--nets LeNet,VGG] [--pools average,max] [--json FILE]

The networks, steps and processes are those of conv_peers.py, on one core. Every product of every layer (forward, its
derivative by the inputs and by the weights) is timed by itself in three forms: this library's, XLA's and torch's with
channels last. The floor of a step is the sum of the fastest of the three times how often the step needs it:

    strict predictive coding      forward and weights once; in sweep t, the inputs of the layers that have an error, and
                                  forward where the activities below have moved; forward of hidden layers at the end
    equilibrium propagation       60 steps, each with forward and inputs of every layer but the first; the first forward
                                  and its weights once, the other weights at both ends

Pooling counts as a product, activations and updates do not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import Counter
from pathlib import Path
from statistics import median

from pc_peers import Worker

SWEEPS, STEPS = 20, 60
Needs = Counter[tuple[int, str]]


def strict(depth: int) -> Needs:
    """How often every product is needed with the light cone, by layer."""
    needs: Needs = Counter()
    for layer in range(depth):
        needs[layer, "forward"] += 1 + (0 < layer < depth - 1)
        needs[layer, "weights"] += 1
        for t in range(SWEEPS):
            needs[layer, "inputs"] += layer >= max(1, depth - t - 1)
            needs[layer, "forward"] += layer >= max(1, depth - t)
    return needs


def hopfield(depth: int) -> Needs:
    """How often every product is needed, by layer."""
    needs: Needs = Counter({(0, "forward"): 1, (0, "weights"): 1})
    for layer in range(1, depth):
        needs += Counter({(layer, "forward"): STEPS, (layer, "inputs"): STEPS, (layer, "weights"): 2})
    return needs


def fastest(seconds: dict[str, list[float]]) -> dict[tuple[int, str], tuple[float, str]]:
    """Of every layer's product the shortest time of all forms, and the form."""
    found: dict[tuple[int, str], tuple[float, str]] = {}
    for name, own in seconds.items():
        form, layer, what = name.split(" ")
        one = min(own), form
        found[int(layer), what] = min(found.get((int(layer), what), one), one)
    return found


def measure(pythons: dict[str, str], problem: tuple[str, str], rounds: int) -> dict[str, dict[str, float | str]]:
    """Every step of this library and every product, in turn."""
    workers = [Worker(name, python, problem) for name, python in pythons.items()]
    wanted = [f"neurai {rule}" for rule in ("pc strict", "ep hopfield")]
    steps = [(w, name) for w in workers for name in w.steps if name in wanted or not name.startswith("neurai ")]
    seconds: dict[str, list[float]] = {name: [] for _, name in steps}
    for _ in range(rounds):
        for worker, name in steps:
            seconds[name].append(worker.time(name))
    for worker in workers:
        worker.end()
    rules = {name: seconds.pop(name) for name in wanted if name in seconds}
    products, rows = fastest(seconds), {}
    depth = 1 + max(layer for layer, _ in products)
    for name, own in rules.items():
        needs = (strict if "strict" in name else hopfield)(depth)
        used = {key: (times * products[key][0], products[key][1]) for key, times in needs.items() if key in products}
        floor = sum(time for time, _ in used.values())
        of_torch = sum(time for time, form in used.values() if form == "torch") / floor
        rows[name] = {
            "ms_min": 1e3 * min(own),
            "ms_median": 1e3 * median(own),
            "floor_ms": 1e3 * floor,
            "ratio": min(own) / floor,
            "part_of_torch": of_torch,
        }
    return rows | {f"{layer} {what}": {"ms": 1e3 * t, "form": f} for (layer, what), (t, f) in sorted(products.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter that has torch")
    parser.add_argument("--nets", default="LeNet,VGG")
    parser.add_argument("--pools", default="average,max")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # the workers inherit it
    ours = dict.fromkeys(("neurai_conv", "neurai_floor"), sys.executable)
    results = {}
    for net in args.nets.split(","):
        for pool in args.pools.split(","):
            title = f"{net}, {pool} pooling"
            results[title] = measure(
                ours | ({"torch_floor": args.torch} if args.torch else {}), (net, pool), args.rounds
            )
            print(f"\n{title}")
            for name, row in results[title].items():
                print(
                    f"  {name:24}", *(f"{k} {v:.2f}" if isinstance(v, float) else v for k, v in row.items()), flush=True
                )
    if args.json:
        Path(args.json).write_text(
            json.dumps({"python": platform.python_version(), "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

"""All built-in rules side by side: what they reach, how they align with back-propagation, what they cost.

python benchmarks/rules_table.py [--json FILE] [--rules NAME ...] [--data digits fashion-mnist] [--seeds 5]
                                 [--epochs N] [--seconds S]

Every rule is trained as `neurai train --rule NAME --data DATA` does it with nothing else set: with the network, the
optimizer and, on the digits, the number of epochs that its spec names as its defaults. On Fashion-MNIST, all of them
train for FASHION_EPOCHS epochs. A run gives

- the test accuracy after the last epoch; of features learned without labels, that of a linear probe,
- the cosine between the gradients of the rule and those of back-propagation, per layer from the inputs on: on the first
  batch after every epoch, the mean over the epochs. Layers for which back-propagation has no gradient, such as feedback
  weights, are left out.

Every run is written to the file at once, and none that stands there is repeated: start the same command again to go on
after an interruption, or after `--seconds`. `docs/generate.py` writes the page from the file, and from that of
`rules_speed.py`, which measures what a step costs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from timing import write

import neurai_core as neurai
from neurai_core.registry import REGISTRY
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.inspection import cosines
from neurai_core.training.loop import train_task
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

FASHION_EPOCHS = 2

Results = dict[str, dict[str, dict[str, dict[str, Any]]]]  # rule, data, seed


def rules() -> list[str]:
    """Every rule that ships with NeurAI, under its own name."""
    return sorted({neurai.spec("algorithm", one.name).name for one in REGISTRY.entries("algorithm") if one.builtin})


def trained(rule: str, data: str, seed: int, epochs: int | None) -> dict[str, Any]:
    """What one run gives."""
    if epochs is None and data == "fashion-mnist":
        epochs = FASHION_EPOCHS
    given = {"rule": rule, "data": data, "seed": seed} | ({"epochs": epochs} if epochs else {})
    task = prepare(choose(given, environ={}))
    look, seen = cosines(task), []

    def epoch(row: Any, progress: Any) -> None:
        if look is not None:
            seen.append(look(progress.params, progress.state))

    began = time.perf_counter()
    done = train_task(task, callbacks=Callbacks(epoch=epoch))
    cosine = {layer: mean(one[layer] for one in seen) for layer in (seen[0] if seen else ())}
    return {
        "accuracy": done.rows[-1].values["test_accuracy"],
        "epochs": task.epochs,
        "cosine": {layer: value for layer, value in cosine.items() if not math.isnan(value)},
        "seconds": round(time.perf_counter() - began, 1),
    }


def missing(results: Results, names: Sequence[str], data: Sequence[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    """The runs that do not stand in the results, the first seed of every rule before the second of any."""
    for one in data:
        for seed in range(seeds):
            for rule in names:
                if str(seed) not in results.get(rule, {}).get(one, {}):
                    yield rule, one, seed


def table(results: Results, data: Sequence[str]) -> str:
    """One row per rule."""
    lines = [f"| rule | {' | '.join(data)} | cosine on {data[0]} |", "| --- |" + " ---: |" * len(data) + " --- |"]
    for rule in sorted(results):
        runs = [list(results[rule].get(one, {}).values()) for one in data]
        lines.append(f"| `{rule}` | {' | '.join(map(accuracy_of, runs))} | {cosine_of(runs[0])} |")
    return "\n".join(lines)


def accuracy_of(runs: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds."""
    values = [run["accuracy"] for run in runs]
    if not values:
        return ""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def cosine_of(runs: Sequence[dict[str, Any]]) -> str:
    """The mean over the seeds, layer by layer."""
    layers = runs[0]["cosine"] if runs else ()
    return ", ".join(f"{mean(run['cosine'][layer] for run in runs):.2f}" for layer in layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the results to this file, and go on from those that stand there")
    parser.add_argument("--rules", nargs="+", default=rules())
    parser.add_argument("--data", nargs="+", default=["digits", "fashion-mnist"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of the defaults")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no further run after this time")
    args = parser.parse_args()
    results: Results = {}
    if args.json and Path(args.json).exists():
        results = json.loads(Path(args.json).read_text())["results"]
    began = time.monotonic()
    for rule, data, seed in missing(results, args.rules, args.data, args.seeds):
        if time.monotonic() - began > args.seconds:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = trained(rule, data, seed, args.epochs)
        results.setdefault(rule, {}).setdefault(data, {})[str(seed)] = found
        print(rule, data, seed, found, flush=True)
        write(args.json, results)
    print(table(results, args.data))


if __name__ == "__main__":
    main()

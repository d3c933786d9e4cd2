"""All built-in rules side by side: what they reach, how they align with back-propagation, what they cost.

python benchmarks/rules_table.py [--json rules.json] [--rules NAME ...] [--data digits fashion-mnist]
                                 [--seeds 5] [--epochs N]

Every rule is trained as `neurai train --rule NAME --data DATA` does it with nothing else set: with the network, the
optimizer and the number of epochs that its spec names as its defaults. The columns are

- test accuracy at the end, the mean over the seeds and its standard deviation; on Fashion-MNIST one seed and 5 epochs,
- the cosine between the rule's gradients and those of back-propagation, per layer from the inputs on: the mean over the
  last epoch on digits with the first seed,
- time and peak memory of an estimate relative to back-propagation, as `neurai check --cost` measures them: layers
  4-128-128-3 and 128 examples; for spiking rules, one recurrent stage and 12 steps.

What stands in the JSON file already is not run again, so an interrupted table goes on.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from timing import write

import neurai_core as neurai
from neurai_core.testing import check_algorithm
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.loop import train_task
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

LONG = "fashion-mnist"  # trained once, for LONG_EPOCHS
LONG_EPOCHS = 5


def rules() -> list[str]:
    """Every rule that ships with NeurAI, under its own name."""
    shipped = [one.name for one in neurai.plugins() if one.kind == "algorithm" and one.builtin]
    return sorted({neurai.spec("algorithm", name).name for name in shipped})


def last_row(rule: str, data: str, seed: int, epochs: int | None, align: bool = False) -> dict[str, float]:
    """The metrics of the last epoch of one run."""
    rows: list[Any] = []
    flags = {"rule": rule, "data": data, "seed": seed, "align": align}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_task(
            prepare(choose(flags | ({"epochs": epochs} if epochs else {}), environ={})),
            callbacks=Callbacks(epoch=lambda row, _: rows.append(row)),
        )
    return rows[-1].values


def measured(rule: str, data: str, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Accuracies of every seed, and alignment where back-propagation is a reference."""
    if data == LONG:
        return {"accuracy": [last_row(rule, data, 0, epochs or LONG_EPOCHS)["test_accuracy"]]}
    align = not neurai.spec("algorithm", rule).no_alignment
    runs = [last_row(rule, data, seed, epochs, align and seed == 0) for seed in range(seeds)]
    cosines = [value for key, value in runs[0].items() if key.startswith("aux/alignment/cosine/")]
    return {"accuracy": [run["test_accuracy"] for run in runs], "cosine": cosines}


def cost(rule: str) -> dict[str, float | None]:
    """Time and memory of an estimate, relative to back-propagation."""
    outcomes = {one.check: one.figure for one in check_algorithm(rule, only=["cost-step", "cost-memory"])}
    return {"time": outcomes["cost-step"], "memory": outcomes["cost-memory"]}


def table(results: dict[str, Any], data: list[str]) -> str:
    """One row per rule."""
    columns = ["rule", "claims", *data, "cosine with bp, per layer", "time", "memory"]
    lines = [f"| {' | '.join(columns)} |", "| --- | --- |" + " ---: |" * (len(columns) - 2)]
    for rule, found in results.items():
        claims = ", ".join(neurai.spec("algorithm", rule).claims) or "-"
        scores = [_spread(found.get(one, {}).get("accuracy", [])) for one in data]
        cosines = " ".join(f"{one:.2f}" for one in found.get("digits", {}).get("cosine", [])) or "-"
        costs = [f"{found['cost'][name]:.2f}" if found["cost"][name] else "-" for name in ("time", "memory")]
        lines.append(f"| `{rule}` | {' | '.join([claims, *scores, cosines, *costs])} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file, and go on from those that stand there")
    parser.add_argument("--rules", nargs="+", default=rules())
    parser.add_argument("--data", nargs="+", default=["digits", LONG])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of the defaults of each rule")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    if args.json and Path(args.json).exists():
        results = json.loads(Path(args.json).read_text())["results"]
    for rule in args.rules:
        found = results.setdefault(rule, {})
        for data in args.data:
            if data not in found:
                found[data] = measured(rule, data, args.seeds, args.epochs)
                print(rule, data, found[data], flush=True)
                write(args.json, results)
        if "cost" not in found:
            found["cost"] = cost(rule)
            write(args.json, results)
    print(table({rule: results[rule] for rule in args.rules}, args.data))


if __name__ == "__main__":
    main()

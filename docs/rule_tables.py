"""The page on which all rules stand side by side, from what the benchmarks measured of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from markdown_lines import Lines, code, codes, table

import neurai_core as neurai

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "measured"
DATA = {"digits": "digits", "fashion-mnist": "Fashion-MNIST"}
PAGES = {
    "predictive-coding": ("pc",),
    "bidirectional": ("bipc",),
    "equilibrium-propagation": ("ep",),
    "feedback-rules": ("fa", "dfa", "sign-symmetry", "kolen-pollack", "dtp"),
    "forward-only": ("forward-forward", "pepita", "forward-gradient", "weight-perturbation", "node-perturbation"),
    "unsupervised": ("hebbian", "softhebb"),
    "spiking-rules": ("eprop", "ottt", "decolle", "stdp", "reward-stdp"),
    "mathematics": ("bp",),
}


def side_by_side() -> Lines:
    """Every rule: what it reaches, and what a step costs."""
    runs, steps = results("rules"), results("rules_speed")
    yield "All built-in rules, with nothing set but the data. Each has a network and an optimizer that suit it: this is"
    yield "no contest. To compare rules on one network, use [`neurai compare`](../comparing.md).\n"
    yield "## What they reach\n"
    yield from _reached(runs)
    yield f"""
Test accuracy, mean and standard deviation over the seeds. On the digits, every rule trains as `neurai train --rule NAME
--data digits` does it, {_numbers(runs, "digits")}; the pages that are linked have more seeds of most rules. The
accuracy of rules without labels is that of a linear probe.
The cosine between the gradients of a rule and those of back-propagation is that of the first batch of the digits after
every epoch, the mean over epochs and seeds, from the first layer to the last. Rules without labels and
`forward-forward` have no such reference. Checks are those of `neurai check NAME` with all variants, from the
[results of the checks](check-results.md).
"""
    if _epochs(runs):
        yield f"""On Fashion-MNIST, rules train for {_epochs(runs)} epochs with their other defaults,
{_numbers(runs, "fashion-mnist")}: this shows what a rule learns fast, not what it can reach. Empty cells were not run.
"""
    yield "`python benchmarks/rules_table.py --json benchmarks/measured/rules.json` measures it.\n"
    yield "## What a step costs\n"
    yield from _costs(steps)
    yield """
Networks are 512-512-512-10, with tanh and a batch of 256 or, spiking, over 10 steps with a batch of 128; rules without
labels leave out the last layer, and rules with samples take 4; signs stand for `distribution="signs"`.
Products are the operations of the matrix products that a rule needs, as its page counts them, in forward passes.
The floor is a program of these products alone; those of spiking rules follow step by step, and those of `eprop` are
of all steps at once. It and back-propagation run in turn with the step. Where a rule draws random numbers, the second
ratio is to a floor that draws as many. Memory is what XLA plans for the step.

`python benchmarks/rules_speed.py --json benchmarks/measured/rules_speed.json` measures it; see
[Benchmarks](../benchmarks.md#rules-and-their-products) for the reasons where a step takes longer than its products.
"""


def results(name: str) -> dict[str, Any]:
    """What a benchmark wrote."""
    found: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))["results"]
    return found


def _reached(runs: Mapping[str, Any]) -> Lines:
    passed = _checks()
    rows = []
    for name, found in sorted(runs.items()):
        by_data = [list(found.get(data, {}).values()) for data in DATA]
        claims = codes(neurai.spec("algorithm", name).claims)
        rows.append((_link(name), *map(_spread, by_data), _cosines(by_data[0]), claims, passed.get(name, "")))
    yield from table(("rule", *DATA.values(), "cosine with `bp`", "claims", "checks passed"), rows)


def _costs(steps: Mapping[str, Any]) -> Lines:
    columns = ("needed", "to floor", "to floor with draws", "to bp", "memory to bp")
    rows = [
        (_link(*name.split(", ")), *(_short(found[one]) for one in columns)) for name, found in sorted(steps.items())
    ]
    headings = ("rule", "products", "time / floor", "time / floor with draws", "time / `bp`", "memory / `bp`")
    yield from table(headings, rows)


def _link(name: str, *settings: str) -> str:
    page = next((page for page, names in PAGES.items() if name in names), None)
    return ", ".join([code(name) if page is None else f"[{code(name)}](../{page}.md)", *settings])


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _spread(runs: Sequence[Mapping[str, Any]]) -> str:
    values = [run["accuracy"] for run in runs]
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "") if values else ""


def _cosines(runs: Sequence[Mapping[str, Any]]) -> str:
    layers = runs[0]["cosine"] if runs else ()
    return " ".join(f"{mean(run['cosine'][layer] for run in runs):.2f}" for layer in layers)


def _numbers(runs: Mapping[str, Any], data: str) -> str:
    """How many seeds there are, for a sentence."""
    counts = sorted({len(found.get(data, {})) for found in runs.values()} - {0})
    ends = counts if len(counts) < 2 else (counts[0], counts[-1])
    return f"{' to '.join(map(str, ends))} seed{'s' * (counts[-1] > 1)} each"


def _epochs(runs: Mapping[str, Any]) -> str:
    return ", ".join(
        sorted({str(one["epochs"]) for found in runs.values() for one in found.get("fashion-mnist", {}).values()})
    )


def _checks() -> dict[str, str]:
    """By rule, how many of the checks that applied passed; expected failures count as applied."""
    page = (ROOT / "docs" / "generated" / "check-results.md").read_text(encoding="utf-8")
    found: dict[str, list[int]] = {}
    for name, *numbers in re.findall(
        r"^\| algorithm ([\w-]+).*? \| (\d+) \| (\d+) \| (\d+) \| \d+ \|$", page, re.MULTILINE
    ):
        passed, failed, expected = map(int, numbers)
        found[name] = [
            a + b for a, b in zip(found.get(name, [0, 0]), (passed, passed + failed + expected), strict=True)
        ]
    return {name: f"{passed} of {applied}" for name, (passed, applied) in found.items()}

"""Final scores, tests and tables of a comparison, from its results as ``results.json`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from rich.console import Group, RenderableType

from neurai_core.report.statistics import holm, paired_t, t_interval
from neurai_core.report.tables import table

LEVEL = 0.05  # of the tests
Results = Mapping[str, Any]


def analysis(rules: Mapping[str, Results], score: str) -> dict[str, Any]:
    """Intervals of the final scores, and a paired test for every pair of rules.

    Args:
        rules: the results of every rule, with its ``seeds``.
        score: the metric that is compared.

    Returns:
        ``scores``: by rule, ``mean``, ``low``, ``high`` (t interval, 95 %) and ``values`` by seed, without those that
        failed. ``tests``: ``rules`` (a pair), ``difference`` of their means with ``low`` and ``high``, ``seeds``
        that both finished, ``p`` of the paired t test and ``p_holm``; empty with fewer than two seeds.

    >>> def ended(*values):
    ...     return {"seeds": [{"seed": n, "failed": None, "rows": [{"acc": v}]} for n, v in enumerate(values)]}
    >>> found = analysis({"a": ended(0.5, 0.6, 0.7), "b": ended(0.4, 0.5, 0.5)}, "acc")
    >>> round(found["scores"]["a"]["mean"], 2), found["tests"][0]["rules"], round(found["tests"][0]["p"], 3)
    (0.6, ['a', 'b'], 0.057)
    """
    values = {rule: finals(result, score) for rule, result in rules.items()}
    scores = {
        rule: {**_interval(list(found.values())), "values": {str(seed): value for seed, value in found.items()}}
        for rule, found in values.items()
    }
    tests = [found for pair in combinations(values, 2) if (found := _test(pair, values))]
    for found, corrected in zip(tests, holm([found["p"] for found in tests]), strict=True):
        found["p_holm"] = corrected
    return {"scores": scores, "tests": tests}


def finals(result: Results, score: str) -> dict[int, float]:
    """The score of every seed that finished, after the last epoch."""
    return {run["seed"]: run["rows"][-1][score] for run in result["seeds"] if run["failed"] is None}


def _interval(values: list[float]) -> dict[str, float | None]:
    return dict(t_interval(values)._asdict()) if values else {"mean": None, "low": None, "high": None}


def _test(pair: tuple[str, str], values: Mapping[str, Mapping[int, float]]) -> dict[str, Any] | None:
    first, second = (values[rule] for rule in pair)
    both = [seed for seed in first if seed in second]
    if len(both) < 2:
        return None
    a, b = ([one[seed] for seed in both] for one in (first, second))
    mean, low, high = t_interval([x - y for x, y in zip(a, b, strict=True)])
    return {
        "rules": list(pair),
        "difference": mean,
        "low": low,
        "high": high,
        "seeds": len(both),
        "p": paired_t(a, b),
    }


# ---------------------------------------------------------------------------- tables


def tables(results: Results) -> RenderableType:
    """The tables that a comparison prints: scores and costs, and tests."""
    columns = score_columns(results)
    shown = [table(columns, score_rows(results), right=columns[1:])]
    if results["tests"]:
        shown.append(table(PAIRS, pair_rows(results), right=PAIRS[1:]))
    return Group(*shown)


PAIRS = ("pair", "difference", "95 % interval", "p", "p (Holm)", "different")


def score_columns(results: Results) -> tuple[str, ...]:
    """The headings of `score_rows`."""
    costs = ("time per step", "memory per step", "products per step")
    return ("rule", results["score"].replace("_", " "), "95 % interval", "seeds", "loss", *costs)


def score_rows(results: Results) -> list[list[str | None]]:
    """A row per rule, for the columns `score_columns`."""
    return [_score_row(results, rule) for rule in results["rules"]]


def _score_row(results: Results, rule: str) -> list[str | None]:
    result, score, percent = results["rules"][rule], results["scores"][rule], is_share(results["score"])
    finished = len(score["values"])
    losses = finals(result, "test_loss" if results["score"].startswith("test") else "train_loss")
    loss = sum(losses.values()) / len(losses) if losses else None
    return [
        rule,
        text_of(score["mean"], percent),
        span(score, percent),
        f"{finished} of {len(result['seeds'])}",
        None if loss is None else f"{loss:.4g} ({result['own_loss'] or result['loss']})",
        f"{result['step_ms']:.3g} ms" if result["step_ms"] is not None else None,
        f"{result['bytes'] / 2**20:.3g} MiB" if result["bytes"] else None,
        products_text(result),
    ]


def products_text(result: Results) -> str:
    """The matrix products of a step, in forward passes of the network."""
    times = result["flops"] / result["forward_flops"] if result["forward_flops"] else 0.0
    return f"{'' if result['flops_exact'] else '>= '}{times:.4g} x forward"


def pair_rows(results: Results) -> list[list[str | None]]:
    """A row per pair of rules, for the columns `PAIRS`."""
    percent = is_share(results["score"])
    return [
        [
            " - ".join(found["rules"]),
            text_of(found["difference"], percent, sign="+"),
            span(found, percent, sign="+"),
            p_text(found["p"]),
            p_text(found["p_holm"]),
            "yes" if found["p_holm"] < LEVEL else "not shown",
        ]
        for found in results["tests"]
    ]


def is_share(score: str) -> bool:
    """Whether a score is a share, printed in percent."""
    return score.endswith("accuracy")


def text_of(value: float | None, percent: bool, sign: str = "") -> str | None:
    """A score in words.

    >>> text_of(0.98765, True), text_of(0.0123, False, sign="+"), text_of(None, True)
    ('98.77 %', '+0.0123', None)
    """
    if value is None:
        return None
    return f"{100 * value:{sign}.2f} %" if percent else f"{value:{sign}.4g}"


def span(found: Results, percent: bool, sign: str = "") -> str | None:
    """The interval of a score in words."""
    if found["low"] is None:
        return None
    low, high = (text_of(found[end], percent, sign) or "" for end in ("low", "high"))
    return f"{low.removesuffix(' %')} to {high}"


def p_text(p: float) -> str:
    """A p-value in words.

    >>> p_text(0.0312), p_text(1e-7)
    ('0.031', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def notes(results: Results) -> Sequence[str]:
    """Sentences on what limits the results: seeds that failed, energies that rose, too few seeds."""
    found = []
    if len(results["seeds"]) < 2:
        found.append("One seed gives no intervals and no tests; give --seeds 5 or more.")
    for rule, result in results["rules"].items():
        for run in result["seeds"]:
            if run["failed"] is not None:
                found.append(
                    f"{rule}, seed {run['seed']}: a loss was not finite at step {run['failed']}; the seed is left out."
                )
        if result["rising"]:
            found.append(f"{rule}: the energy rose while relaxing, so its gradients mean little; take smaller steps.")
    if not same_loss(results):
        found.append(f"The losses differ ({', '.join(_losses(results))}), so their values cannot be compared.")
    return found


def same_loss(results: Results) -> bool:
    """Whether all rules minimize one loss."""
    return len(_losses(results)) == 1


def _losses(results: Results) -> list[str]:
    return sorted({result["own_loss"] or result["loss"] for result in results["rules"].values()})

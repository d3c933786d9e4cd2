"""Scores of a sweep and its table, from its results as ``results.json`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from neurai_core.report.comparison import is_share, text_of
from neurai_core.report.tables import table

SHOWN = 20  # configurations in the table


def ranked(points: Sequence[Mapping[str, Any]], score: str) -> dict[str, Any]:
    """The score of every configuration, and which is the best.

    Args:
        points: with ``values`` by name, and ``seeds``: of every seed ``rows`` and the step at which it ``failed``.
        score: the metric.

    Returns:
        ``points``: each with ``score``, the mean over its seeds, None if one failed, and with ``scores`` by seed.
        ``best``: the place of the best; None if there is none.

    >>> def ended(*values):
    ...     return [{"seed": n, "failed": None, "rows": [{"acc": value}]} for n, value in enumerate(values)]
    >>> found = ranked([{"seeds": ended(0.5, 0.6)}, {"seeds": ended(0.7, 0.9)}], "acc")
    >>> [round(point["score"], 2) for point in found["points"]]
    [0.55, 0.8]
    """
    scored = [{**point, **_scored(point["seeds"], score)} for point in points]
    known = {at: point["score"] for at, point in enumerate(scored) if point["score"] is not None}
    return {"points": scored, "best": _best(known, score)}


def _best(known: Mapping[int, float], score: str) -> int | None:
    return (max if is_share(score) else min)(known, key=known.__getitem__) if known else None


def _scored(seeds: Sequence[Mapping[str, Any]], score: str) -> dict[str, Any]:
    values = {str(run["seed"]): run["rows"][-1][score] for run in seeds if run["failed"] is None}
    whole = len(values) == len(seeds)
    return {"score": sum(values.values()) / len(values) if whole else None, "scores": values}


def sweep_table(results: Mapping[str, Any]) -> RenderableType:
    """The best configurations, a row each, from the best to the worst."""
    names = [axis["name"] for axis in results["axes"]]
    percent, score = is_share(results["score"]), results["score"]
    rows = [
        [*map(_value, point["values"].values()), text_of(point["score"], percent), *_range(point, percent, results)]
        for point in in_order(results)[:SHOWN]
    ]
    several = len(results["seeds"]) > 1
    columns = (*map(short, names), score.replace("_", " "), *(("lowest", "highest", "seeds") if several else ()))
    return table(columns, rows, right=columns)


def in_order(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configurations from the best to the worst; those with a failed seed come last."""
    sign = -1.0 if is_share(results["score"]) else 1.0
    known = [point for point in results["points"] if point["score"] is not None]
    failed = [point for point in results["points"] if point["score"] is None]
    return sorted(known, key=lambda point: sign * point["score"]) + failed


def notes(results: Mapping[str, Any]) -> list[str]:
    """Sentences on what the table does not show, and on a best value at the end of its axis."""
    found, points = [], results["points"]
    if len(points) > SHOWN:
        found.append(f"The table shows the best {SHOWN} of {len(points)} configurations.")
    failed = [point for point in points if point["score"] is None]
    if failed:
        what = f"{len(failed)} of {len(points)} configurations"
        found.append(f"A loss was not finite in {what}, which have no score.")
    return found + [
        f"The best {short(axis['name'])} is the {end} of its axis; a wider axis may hold a better one."
        for axis in results["axes"]
        if (end := _end_with_the_best(axis, in_order(results)))
    ]


def _end_with_the_best(axis: Mapping[str, Any], ordered: Sequence[Mapping[str, Any]]) -> str:
    """Which end of an axis of numbers has the best score, if no value inside has it too; else ""."""
    values = axis["values"]
    if len(values) < 3 or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ""
    low, high = min(values), max(values)
    best = {point["values"][axis["name"]] for point in ordered if point["score"] == ordered[0]["score"] is not None}
    return "smallest" if best == {low} else "largest" if best == {high} else ""


def short(name: str) -> str:
    """A setting as the command line names it.

    >>> short("rule.eta"), short("optimizer.momentum")
    ('eta', 'optimizer.momentum')
    """
    return name.removeprefix("rule.")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(point: Mapping[str, Any], percent: bool, results: Mapping[str, Any]) -> list[str | None]:
    n = len(results["seeds"])
    if n < 2:
        return []
    values = point["scores"].values()
    low, high = (text_of(end(values), percent) if values else None for end in (min, max))
    return [low, high, f"{len(values)} of {n}"]

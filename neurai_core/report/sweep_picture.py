"""The picture of a sweep: a curve over one axis, a heat map over two, and dots over each axis of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neurai_core.report.canvas import BLUE, PANEL, VERMILION, canvas
from neurai_core.report.comparison import is_share
from neurai_core.report.pictures import log_scale
from neurai_core.report.sweep import short

PANELS = 3  # in a row
MOST_NUMBERS = 60  # cells up to which each has its number


def picture(results: Mapping[str, Any], path: Path) -> Path:
    """Draw the scores of a sweep: a curve for one axis; for more, a heat map of the first two.

    With more than two axes, a cell of the map is the best score over the others. For a search, a dot per configuration
    over every axis.

    Args:
        results: as ``results.json`` holds them.
        path: the picture file to write.

    Raises:
        OutputError: the file cannot be written.
    """
    if "search" in results:
        return _search(results, path)
    axes = results["axes"]
    columns = len(axes[0]["values"])
    rows = len(axes[1]["values"]) if len(axes) > 1 else 0
    size = PANEL if not rows else (max(PANEL[0], 1.6 + 0.55 * columns), max(PANEL[1], 1.2 + 0.4 * rows))
    with canvas(path, size) as figure:
        drawn = figure.subplots()
        if rows:
            _map(drawn, results)
        else:
            _curve(drawn, results)
        rest = f", best over {', '.join(short(axis['name']) for axis in axes[2:])}" if len(axes) > 2 else ""
        drawn.set_title(f"{results['rule']} on {results['data']}{rest}", parse_math=False)
    return path


def _search(results: Mapping[str, Any], path: Path) -> Path:
    axes = results["axes"]
    rows = -(-len(axes) // PANELS)
    columns = -(-len(axes) // rows)
    with canvas(path, (PANEL[0] * columns, PANEL[1] * rows)) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for panel, axis in zip(panels, axes, strict=False):
            _dots(panel, axis, results)
        for panel in panels[len(axes) :]:
            panel.set_axis_off()
        figure.suptitle(f"{results['rule']} on {results['data']}", parse_math=False)
    return path


def _dots(panel: Axes, axis: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """The score of every configuration over one axis."""
    points = [point for point in results["points"] if point["score"] is not None]
    values, scores = [point["values"][axis["name"]] for point in points], [point["score"] for point in points]
    numeric = _is_numeric(axis)
    places = values if numeric else [axis["values"].index(value) for value in values]
    panel.plot(places, scores, "o", color=BLUE, markersize=4, alpha=0.7)
    if results["best"] is not None:
        best = points.index(results["points"][results["best"]])
        panel.plot(places[best : best + 1], scores[best : best + 1], "o", color=VERMILION, markersize=7, label="best")
        panel.legend()
    _name_places(panel, axis)
    _name_scores(panel, results, scores)


def _curve(axes: Axes, results: Mapping[str, Any]) -> None:
    """Mean over the seeds, and every seed as a dot."""
    axis, points = results["axes"][0], results["points"]
    x = _places(axis)
    axes.plot(x, [_number(point["score"]) for point in points], color=BLUE, marker="o", markersize=4, label="mean")
    dots = [(at, value) for at, point in zip(x, points, strict=True) for value in point["scores"].values()]
    if dots and len(results["seeds"]) > 1:
        axes.plot(*zip(*dots, strict=True), ".", color=BLUE, markersize=3, alpha=0.5)
    if results["best"] is not None:
        best = results["best"]
        axes.plot([x[best]], [points[best]["score"]], "o", color=VERMILION, markersize=7, label="best")
        axes.legend()
    _name_places(axes, axis)
    _name_scores(axes, results, [value for _, value in dots])


def _name_places(axes: Axes, axis: Mapping[str, Any]) -> None:
    axes.set_xlabel(short(axis["name"]), parse_math=False)
    if _is_numeric(axis):
        axes.set_xscale("log" if axis["scale"] == "log" else "linear")
    else:
        axes.set_xticks(range(len(axis["values"])), list(map(_text, axis["values"])))


def _name_scores(axes: Axes, results: Mapping[str, Any], known: Sequence[float]) -> None:
    axes.set_ylabel(results["score"].replace("_", " "))
    if results["score"].endswith("loss") and known and min(known) > 0:
        log_scale(axes, min(known), max(known))


def _map(axes: Axes, results: Mapping[str, Any]) -> None:
    across, up = results["axes"][:2]
    cells = _cells(results, across, up)
    percent = is_share(results["score"])
    shown = axes.imshow(cells, origin="lower", aspect="auto", cmap="viridis" if percent else "viridis_r")
    axes.grid(False)
    for axis, set_ticks, set_label in (
        (across, axes.set_xticks, axes.set_xlabel),
        (up, axes.set_yticks, axes.set_ylabel),
    ):
        set_ticks(range(len(axis["values"])), list(map(_text, axis["values"])))
        set_label(short(axis["name"]), parse_math=False)
    if len(across["values"]) > 6:
        axes.tick_params(axis="x", labelrotation=60)
    bar = axes.figure.colorbar(shown, ax=axes)
    bar.set_label(results["score"].replace("_", " "))
    if cells.size <= MOST_NUMBERS:
        _write_numbers(axes, cells, percent)


def _cells(results: Mapping[str, Any], across: Mapping[str, Any], up: Mapping[str, Any]) -> np.ndarray:
    """The best score of every pair of values, ``(values of the second axis, values of the first)``; nan without one."""
    best = np.fmax if is_share(results["score"]) else np.fmin
    cells = np.full((len(up["values"]), len(across["values"])), np.nan)
    for point in results["points"]:
        at = tuple(axis["values"].index(point["values"][axis["name"]]) for axis in (up, across))
        cells[at] = best(cells[at], _number(point["score"]))
    return cells


def _write_numbers(axes: Axes, cells: np.ndarray, percent: bool) -> None:
    low, high = (float(end(cells)) for end in (np.nanmin, np.nanmax)) if np.isfinite(cells).any() else (0.0, 1.0)
    for (row, column), value in np.ndenumerate(cells):
        if math.isnan(value):
            axes.text(column, row, "-", ha="center", va="center", fontsize=8)
            continue
        share = (value - low) / (high - low) if high > low else 1.0
        bright = share > 0.6 if percent else share < 0.4
        text = f"{100 * value:.1f}" if percent else f"{value:.3g}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="black" if bright else "white")


def _places(axis: Mapping[str, Any]) -> Sequence[float]:
    return axis["values"] if _is_numeric(axis) else range(len(axis["values"]))  # type: ignore[no-any-return]


def _is_numeric(axis: Mapping[str, Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis["values"])


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else value

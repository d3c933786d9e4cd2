"""Pictures of a comparison, one panel each, so that a narrow page can stack them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

from neurai_core.naming import canonical
from neurai_core.report.canvas import COLORS, PANEL, canvas
from neurai_core.report.comparison import Results, same_loss
from neurai_core.report.pictures import log_scale
from neurai_core.report.statistics import t_interval

# Beside the color, so that curves that coincide stay visible.
LINES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (3, 3)))
MOST_NAMES = 8  # curves up to which each has its name in the legend


class Picture(NamedTuple):
    """A picture of a comparison.

    Attributes:
        section: where it belongs: ``curves``, ``costs``, ``alignment`` or ``energy``.
        path: its file.
        caption: what it shows, in a sentence.
    """

    section: str
    path: Path
    caption: str


def pictures(results: Results, folder: Path) -> list[Picture]:
    """Draw all pictures of a comparison into a folder.

    Args:
        results: as ``results.json`` holds them.
        folder: an existing folder.

    Raises:
        OutputError: a file cannot be written.
    """
    return [*_learning(results, folder), *_costs(results, folder), *_inside(results, folder)]


# ---------------------------------------------------------------------------- over training


def _learning(results: Results, folder: Path) -> Iterator[Picture]:
    score = results["score"]
    yield _scored(results, folder / "score.png", "curves", score, "epoch", "epoch")
    if score != "test_loss" and same_loss(results):
        yield _scored(results, folder / "loss.png", "curves", "test_loss", "epoch", "epoch")


def _costs(results: Results, folder: Path) -> Iterator[Picture]:
    score, words = results["score"], _words(results["score"])
    for name, key, label in (
        ("steps", "step", "steps"),
        ("seconds", "seconds", "wall time of a seed in seconds"),
        ("products", "flops", "floating-point operations of matrix products"),
    ):
        yield _scored(results, folder / f"score_by_{name}.png", "costs", score, key, label)._replace(
            caption=f"{words.capitalize()} against {label}."
        )


def _scored(results: Results, path: Path, section: str, metric: str, key: str, label: str) -> Picture:
    """A metric over training: the mean over the seeds, its interval, and every seed."""
    with canvas(path, PANEL) as figure:
        axes = figure.subplots()
        drawn: list[float] = []
        for (rule, result), color, line in _styled(results["rules"]):
            drawn += _curve(axes, rule, _of_seeds(result, metric), _xs(result, key), color, line)
        _finish(axes, label, _words(metric), drawn, logarithmic=metric.endswith("loss"))
        if key == "flops":
            axes.xaxis.set_major_formatter(EngFormatter())  # a power of ten would stand in the way of the label
        axes.legend()
    return Picture(section, path, f"{_words(metric).capitalize()} over the {label}s.")


def _curve(
    axes: Axes, rule: str, seeds: Sequence[Sequence[float]], x: Sequence[float], color: str, line: Any
) -> list[float]:
    """Draw the curves of a rule; returns the numbers that have to be visible."""
    columns = [[seed[at] for seed in seeds if at < len(seed)] for at in range(len(x))]
    means = [t_interval(column) for column in columns if column]
    x = x[: len(means)]
    marker = "o" if len(means) == 1 else ""
    axes.plot(x, [one.mean for one in means], linestyle=line, marker=marker, color=color, linewidth=1.8, label=rule)
    if all(one.low is not None for one in means):
        low, high = ([getattr(one, end) for one in means] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    for seed in seeds:
        axes.plot(x[: len(seed)], seed, color=color, linewidth=0.6, alpha=0.45)
    return [value for column in columns for value in column]


def _finish(axes: Axes, x: str, y: str, drawn: Sequence[float], *, logarithmic: bool) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not drawn:
        return
    low, high = min(drawn), max(drawn)
    if logarithmic and low > 0:
        axes.set_ylim(low / 1.15, high * 1.15)
        log_scale(axes, low, high)
    else:
        margin = 0.05 * (high - low) or 0.05  # an interval of few seeds may be far wider than the curves
        axes.set_ylim(low - margin, high + margin)


def _of_seeds(result: Results, metric: str) -> list[list[float]]:
    return [[row[metric] for row in run["rows"]] for run in result["seeds"] if run["rows"]]


def _xs(result: Results, key: str) -> list[float]:
    """The horizontal positions of the epochs of a rule."""
    rows: list[Results] = max((run["rows"] for run in result["seeds"]), key=len)
    if key == "flops":
        return [row["step"] * result["flops"] for row in rows]
    if key == "seconds":
        each = [[row[key] for row in run["rows"]] for run in result["seeds"] if len(run["rows"]) == len(rows)]
        return [float(value) for value in np.mean(each, axis=0)]
    return [float(row[key]) for row in rows]


# ---------------------------------------------------------------------------- within a step


def _inside(results: Results, folder: Path) -> Iterator[Picture]:
    for rule, result in results["rules"].items():
        cosines = [run["cosine"] for run in result["seeds"] if run["cosine"] and run["failed"] is None]
        if cosines:
            yield _alignment(rule, cosines, folder / f"alignment_{canonical(rule)}.png")
    for rule, result in results["rules"].items():
        energies = [run["energy"] for run in result["seeds"] if run["energy"]]
        if energies:
            yield _energy(rule, energies, folder / f"energy_{canonical(rule)}.png")


def _alignment(rule: str, cosines: Sequence[Any], path: Path) -> Picture:
    """The cosine of every layer over the epochs; layers without a true gradient are left out."""
    values = {layer: [[epoch[layer] for epoch in run] for run in cosines] for layer in cosines[0][0]}
    known = {layer: np.array(seeds, float) for layer, seeds in values.items() if None not in seeds[0]}
    with canvas(path, PANEL) as figure:
        axes = figure.subplots()
        for number, ((layer, seeds), color) in enumerate(zip(known.items(), _shades(len(known)), strict=True)):
            _curve(axes, f"layer {layer}", seeds.tolist(), range(seeds.shape[1]), color, LINES[number % len(LINES)])
        axes.set_title(rule)
        low = min((float(np.nanmin(seeds)) for seeds in known.values()), default=0.0)
        axes.set_ylim(min(-0.05, low - 0.05), 1.05)
        axes.set_xlabel("epoch")
        axes.set_ylabel("cosine to back-propagation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, len(known))
    return Picture("alignment", path, f"{rule}: cosine between its gradients and those of back-propagation.")


def _energy(rule: str, energies: Sequence[Mapping[str, Sequence[float]]], path: Path) -> Picture:
    """The energy of every phase over its steps, after training."""
    with canvas(path, PANEL) as figure:
        axes = figure.subplots()
        names = list(energies[0])
        for number, (name, color) in enumerate(zip(names, _shades(len(names)), strict=True)):
            seeds = [run[name] for run in energies if name in run]
            _curve(axes, name, seeds, range(len(seeds[0])), color, LINES[number % len(LINES)])
        axes.set_title(rule)
        axes.set_xlabel("step of the relaxation")
        axes.set_ylabel("energy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        _legend(axes, len(names))
    return Picture("energy", path, f"{rule}: energy while relaxing, after training, on the first batch.")


# ---------------------------------------------------------------------------- style


def _styled(rules: Mapping[str, Any]) -> Iterator[tuple[tuple[str, Any], str, Any]]:
    for number, item in enumerate(rules.items()):
        yield item, COLORS[number % len(COLORS)], LINES[number % len(LINES)]


def _shades(n: int) -> list[Any]:
    """Distinct colors for a few curves, a ramp for many."""
    return list(COLORS[:n]) if n <= len(COLORS) else list(colormaps["viridis"](np.linspace(0.1, 0.9, n)))


def _legend(axes: Axes, n: int) -> None:
    """Name every curve, or of many the first and the last."""
    handles, labels = axes.get_legend_handles_labels()
    shown = slice(None) if n <= MOST_NAMES else slice(None, None, max(1, math.ceil((n - 1) / 4)))
    axes.legend(handles[shown], labels[shown])


def _words(metric: str) -> str:
    return metric.replace("_", " ")

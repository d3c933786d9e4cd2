"""Pictures of a run, drawn without a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from neurai_core.report.canvas import BLUE, PANEL, VERMILION, canvas

COLORS = {"train": BLUE, "test": VERMILION}


def learning_curve(
    rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "", own_loss: str = "", probe: bool = False
) -> Path:
    """Draw loss (logarithmic) and, if available, accuracy over the epochs, on training and test data.

    Args:
        rows: one per epoch, with ``epoch``, ``train_loss``, and optionally ``test_loss``, ``train_accuracy`` and
            ``test_accuracy``. A loss that is not positive makes the axis linear.
        path: the picture file to write.
        title: title of the picture.
        own_loss: what the training loss is, in words, if it is not the loss on the test data.
        probe: whether both losses are the rule's own, and the accuracy is that of a linear probe.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> rows = [{"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 2 / epoch} for epoch in (1, 2, 3)]
        >>> learning_curve(rows, Path(tempfile.mkdtemp(), "curve.png")).stat().st_size > 1000
        True
    """
    names = [name for name in ("loss", "accuracy") if any(f"{part}_{name}" in rows[0] for part in COLORS)]
    with canvas(path, (PANEL[0] * len(names), PANEL[1])) as figure:
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            said = {"accuracy": "accuracy of a linear probe", "loss": own_loss} if probe else {}
            _panel(axes, name, rows, {"train": own_loss} if name == "loss" and own_loss and not probe else {})
            axes.set_ylabel(said.get(name, name))
        figure.suptitle(title, parse_math=False)
    return path


def log_scale(axes: Axes, low: float, high: float) -> None:
    """Make an axis logarithmic with plain numbers as ticks, even if it spans less than a factor of ten.

    Args:
        axes: axes whose y axis to change.
        low: smallest value drawn, above 0.
        high: largest value drawn.
    """
    axes.set_yscale("log")
    digits = (1.0, 2.0, 5.0) if high / low > 3 else tuple(float(digit) for digit in range(1, 10))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else digits))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _panel(axes: Axes, name: str, rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> None:
    epochs = [row["epoch"] for row in rows]
    parts = [part for part in COLORS if f"{part}_{name}" in rows[0]]
    curves = {part: [_number(row.get(f"{part}_{name}")) for row in rows] for part in parts}
    marker = "o" if len(rows) < 40 else ""
    for part, values in curves.items():
        what = f"{part}, {words[part]}" if part in words else part
        label = f"{what} ({values[-1]:.4{'f' if name == 'accuracy' else 'g'}} at the end)"
        axes.plot(epochs, values, color=COLORS[part], marker=marker, markersize=3, linewidth=1.5, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    known = [value for values in curves.values() for value in values if math.isfinite(value)]
    if name == "loss" and known and min(known) > 0:
        log_scale(axes, min(known), max(known))


def _number(value: float | None) -> float:
    return math.nan if value is None else value  # non-finite values are null in the metrics

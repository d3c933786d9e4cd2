"""Pictures of a run, drawn without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurai_core.errors import OutputError

COLORS = {"train": "#0072b2", "test": "#d55e00"}  # told apart by every kind of color vision
_SIZE, _DPI = (4.6, 3.4), 150  # inches of one panel


def learning_curve(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> Path:
    """Loss and, where there is one, accuracy over the epochs, on training and test data.

    Args:
        rows: one per epoch, with ``epoch``, ``train_loss``, ``test_loss`` and perhaps ``train_accuracy`` and
            ``test_accuracy``.
        path: the PNG file to write.
        title: what stands above.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> rows = [{"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 2 / epoch} for epoch in (1, 2, 3)]
        >>> learning_curve(rows, Path(tempfile.mkdtemp(), "curve.png")).stat().st_size > 1000
        True
    """
    names = [name for name in ("loss", "accuracy") if f"test_{name}" in rows[0]]
    figure = Figure(figsize=(_SIZE[0] * len(names), _SIZE[1]), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, name, rows)
    figure.suptitle(title)
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Is the disk full?") from error
    return path


def _panel(axes: Axes, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    epochs = [row["epoch"] for row in rows]
    for part, color in COLORS.items():
        values = [row[f"{part}_{name}"] for row in rows]
        marker = "o" if len(rows) < 40 else ""
        axes.plot(
            epochs,
            values,
            color=color,
            marker=marker,
            markersize=3,
            linewidth=1.5,
            label=_label(part, name, values),
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _label(part: str, name: str, values: Sequence[float]) -> str:
    return f"{part} ({values[-1]:.4f} at the end)" if name == "accuracy" else f"{part} ({values[-1]:.4g} at the end)"

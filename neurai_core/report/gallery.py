"""A gallery of surrogates: each one's derivative, and its primitive beside the step that it stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurai_core.errors import OutputError

if TYPE_CHECKING:
    from neurai_core.surrogates import Surrogate

DERIVATIVE, PRIMITIVE, STEP = "#0072b2", "#d55e00", "0.6"  # told apart by every kind of color vision
_SIZE, _DPI, _COLUMNS, _REACH = (3.0, 2.3), 120, 4, 3.0  # inches of one panel; u from -3 to 3


def surrogate_gallery(surrogates: Mapping[str, Surrogate], path: Path, *, reach: float = _REACH) -> Path:
    """One panel per surrogate over the same u, so that widths compare; heights are each one's own.

    Args:
        surrogates: what to draw, by its title.
        path: the picture file to write; its ending chooses the format.
        reach: u goes from -reach to reach.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile, neurai_core as neurai
        >>> drawn = {"superspike": neurai.surrogate("superspike", alpha=10.0)}
        >>> surrogate_gallery(drawn, Path(tempfile.mkdtemp(), "gallery.png")).stat().st_size > 1000
        True
    """
    columns = min(_COLUMNS, len(surrogates))
    rows = math.ceil(len(surrogates) / columns)
    size = (max(_SIZE[0] * columns, 4.8), _SIZE[1] * rows + 0.7)  # room for the legend
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    u = np.linspace(-reach, reach, 1201, dtype=np.float32)
    for axes, (title, surrogate) in zip(panels, surrogates.items(), strict=False):
        _panel(axes, title, surrogate, u)
    for axes in panels[len(surrogates) - columns : len(surrogates)]:  # the lowest of every column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("u", fontsize=8)
    for axes in panels[len(surrogates) :]:
        axes.set_axis_off()
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    return _saved(figure, path)


def _panel(axes: Axes, title: str, surrogate: Surrogate, u: Any) -> None:
    g = np.asarray(surrogate.derivative(u))
    axes.plot(u, np.asarray(_forward(surrogate, u)), color=STEP, linewidth=1, linestyle="--")
    if surrogate.has_primitive:
        axes.plot(u, np.asarray(surrogate.primitive(u)), color=PRIMITIVE, linewidth=1.2)
    axes.plot(u, g, color=DERIVATIVE, linewidth=1.6)
    axes.set_title(title, fontsize=9)
    area = surrogate.facts.area
    top = 1.12 * max(1.0, float(g.max()), float(area) if area is not None and math.isfinite(area) else 0.0)
    axes.set_ylim(min(-0.12 * top, 1.1 * float(g.min())), top)
    axes.text(0.03, 0.95, _said(surrogate), transform=axes.transAxes, va="top", fontsize=7, color="0.35")
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _forward(surrogate: Surrogate, u: Any) -> Any:
    """What fires; where spikes are drawn, the step that they are drawn around."""
    return (u >= 0).astype(u.dtype) if surrogate.needs_key else surrogate.replace(spiking=True)(u)


def _said(surrogate: Surrogate) -> str:
    facts = surrogate.facts
    return "\n".join(
        f"{name} {_short(float(value))}"
        for name, value in (("area", facts.area), ("half width", facts.half_width))
        if value is not None
    )


def _short(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=STEP, linestyle="--", label="forward: spikes"),
        Line2D([], [], color=DERIVATIVE, label="derivative g(u)"),
        Line2D([], [], color=PRIMITIVE, label="primitive P(u)"),
    ]


def _saved(figure: Figure, path: Path) -> Path:
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Does its folder exist?") from error
    except ValueError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "End its name in .png, .svg or .pdf.") from error
    return path

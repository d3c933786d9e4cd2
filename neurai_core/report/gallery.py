"""A gallery of surrogates: the derivative of each, and its primitive together with the step it replaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from neurai_core.report.canvas import BLUE, INK, PURPLE, VERMILION, canvas

if TYPE_CHECKING:
    from neurai_core.surrogates import Surrogate

DERIVATIVE, PRIMITIVE, STEP, OTHER_SCALE = BLUE, VERMILION, INK, PURPLE
_SIZE, _DPI, _COLUMNS, _REACH = (3.0, 2.3), 120, 4, 3.0  # inches of one panel; u from -3 to 3
_TOP = 1.35  # of most panels; the y axis of any other is marked


def surrogate_gallery(surrogates: Mapping[str, Surrogate], path: Path, *, reach: float = _REACH) -> Path:
    """Draw one panel per surrogate over the same u, so that widths compare; a different y scale is marked.

    Args:
        surrogates: surrogates to draw, by title.
        path: the picture file to write; its extension chooses the format.
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
    u = np.linspace(-reach, reach, 1201, dtype=np.float32)
    several = len(surrogates) > 1
    legend = _legend(scales=several)
    lines = math.ceil(len(legend) / columns)
    size = (max(_SIZE[0] * columns, 4.2), _SIZE[1] * rows + 0.3 * lines + 0.2)
    with canvas(path, size, dpi=_DPI) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for axes, (title, surrogate) in zip(panels, surrogates.items(), strict=False):
            _panel(axes, title, surrogate, u, mark=several)
        for axes in panels[len(surrogates) - columns : len(surrogates)]:  # the lowest of every column
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("u", fontsize=8)
        for axes in panels[len(surrogates) :]:
            axes.set_axis_off()
        figure.legend(handles=legend, loc="outside lower center", ncols=columns, fontsize=9)
    return path


def _panel(axes: Axes, title: str, surrogate: Surrogate, u: Any, *, mark: bool) -> None:
    g = np.asarray(surrogate.derivative(u))
    axes.plot(u, np.asarray(_forward(surrogate, u)), color=STEP, linewidth=1, linestyle="--")
    if surrogate.has_primitive:
        axes.plot(u, np.asarray(surrogate.primitive(u)), color=PRIMITIVE, linewidth=1.2)
    axes.plot(u, g, color=DERIVATIVE, linewidth=1.6)
    axes.set_title(title, fontsize=9)
    area = surrogate.facts.area
    top = _TOP * max(1.0, float(g.max()), float(area) if area is not None and math.isfinite(area) else 0.0)
    low = min(-0.12 * top, 1.1 * float(g.min()))
    axes.set_ylim(low, top)
    axes.text(0.03, 0.95, _said(surrogate), transform=axes.transAxes, va="top", fontsize=7)
    axes.tick_params(labelsize=7)
    if mark and (top > _TOP or low < -0.12 * top):
        _mark_scale(axes)


def _mark_scale(axes: Axes) -> None:
    axes.tick_params(axis="y", colors=OTHER_SCALE, width=2)
    axes.spines["left"].set(color=OTHER_SCALE, linewidth=2)


def _forward(surrogate: Surrogate, u: Any) -> Any:
    """The forward step; for random spikes, the step around which they are drawn."""
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


def _legend(*, scales: bool) -> list[Line2D]:
    lines = [
        Line2D([], [], color=STEP, linestyle="--", label="forward: spikes"),
        Line2D([], [], color=DERIVATIVE, label="derivative g(u)"),
        Line2D([], [], color=PRIMITIVE, label="primitive P(u)"),
    ]
    other = Line2D([], [], color=OTHER_SCALE, marker="|", linestyle="", markeredgewidth=2, label="another y scale")
    return [*lines, other] if scales else lines

"""The style of all pictures: no background, gray ink that is readable on white and black, and distinct colors.

The colors are those of Okabe and Ito, which are distinguishable with every kind of color vision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurai_core.errors import OutputError

INK = "#7a7a7a"  # contrast above 4 to both white and black
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
PANEL = (4.6, 3.4)  # inches
STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@contextmanager
def canvas(path: Path, size: tuple[float, float], *, dpi: int = 150) -> Iterator[Figure]:
    """A figure to draw on; it is written when the block ends.

    Args:
        path: the picture file; its extension chooses the format.
        size: width and height in inches.
        dpi: pixels per inch.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with canvas(Path(tempfile.mkdtemp(), "line.png"), PANEL) as figure:
        ...     _ = figure.subplots().plot([1, 2, 3], color=BLUE)
    """
    with rc_context(STYLE):
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Does its folder exist?") from error
    except ValueError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "End its name in .png, .svg or .pdf.") from error

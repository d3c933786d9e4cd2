"""A picture of a graph, layered by depth: boxes with a name and details, arrows from top to bottom.

An arrow that skips a level or goes back takes a lane beside the boxes: downward arrows to the right, upward ones
(dashed) to the left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from neurai_core.report.canvas import BLUE, COLORS, INK, canvas

_BOX, _GAP, _LANE, _ROUND = 0.44, 0.5, 0.16, 0.08  # inches: height of a box, between levels, of a lane, of a corner
_LETTER, _SMALLEST = 0.078, 1.0  # inches of width per character, and of a box
_FONT, _SIDES = 8.5, 0.25  # points; inches around everything
_TITLE_LETTER, _MOST_PIXELS = 0.095, 2**15  # inches of width per character; of the longer side, a limit of matplotlib

Edge = tuple[str, str]
Point = tuple[float, float]


class Box(NamedTuple):
    """One node.

    Attributes:
        name: text of the first line.
        detail: text of the second line.
        color: color of the frame.
    """

    name: str
    detail: str = ""
    color: str = BLUE

    @property
    def width(self) -> float:
        """Width of the text, in inches."""
        return max(_SMALLEST, _LETTER * max(len(self.name), len(self.detail)) + 0.2)


def levels_of(nodes: Sequence[str], edges: Iterable[Edge]) -> dict[str, int]:
    """The level of every node: one below the lowest of its predecessors.

    Args:
        nodes: in order of computation.
        edges: pairs of nodes; edges that go back, or to the node itself, are ignored.

    >>> levels_of(["x", "h", "y"], [("x", "h"), ("x", "y"), ("h", "y"), ("y", "h")])
    {'x': 0, 'h': 1, 'y': 2}
    """
    place = {node: i for i, node in enumerate(nodes)}
    levels: dict[str, int] = {}
    for node in nodes:
        before = [levels[one] for one, other in edges if other == node and place[one] < place[node]]
        levels[node] = max(before, default=-1) + 1
    return levels


def graph(boxes: Mapping[str, Box], edges: Sequence[Edge], path: FilePath, *, title: str = "") -> FilePath:
    """Draw a graph.

    Args:
        boxes: by key, in order of computation.
        edges: pairs of keys.
        path: the picture file to write.
        title: title of the picture.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> boxes = {"x": Box("input"), "h": Box("h", "(4, 3)"), "y": Box("y")}
        >>> edges = [("x", "h"), ("h", "y"), ("x", "y")]
        >>> graph(boxes, edges, FilePath(tempfile.mkdtemp(), "graph.png")).name
        'graph.png'
    """
    drawing = _Drawing(boxes, edges)
    left, right, bottom, top = drawing.limits
    beside = max(0.0, _TITLE_LETTER * len(title) - (right - left)) / 2
    left, right = left - beside, right + beside
    size = (right - left, top - bottom + (0.35 if title else 0.0))
    with canvas(path, size, dpi=int(min(150, _MOST_PIXELS / max(size)))) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.set_axis_off()
        drawing.draw(axes)
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
    return path


class _Drawing:
    """Positions of boxes and lanes, in inches: the first level at the top, everything centered around 0."""

    def __init__(self, boxes: Mapping[str, Box], edges: Sequence[Edge]) -> None:
        self.boxes, self.edges = boxes, list(dict.fromkeys(edges))
        self.level = levels_of(list(boxes), self.edges)
        self.center = self._centers()
        self.edge_of_boxes = max(abs(self.center[key][0]) + box.width / 2 for key, box in boxes.items())
        far = [one for one in self.edges if self._step(one) != 1]
        self.down = self._lanes([one for one in far if self._step(one) > 1])
        self.back = self._lanes([one for one in far if self._step(one) < 1])

    def _step(self, edge: Edge) -> int:
        return self.level[edge[1]] - self.level[edge[0]]

    def _centers(self) -> dict[str, Point]:
        """The centers of the boxes; those of one level side by side, in the order of their predecessors."""
        centers: dict[str, Point] = {}
        for level in range(max(self.level.values()) + 1):
            row = [key for key in self.boxes if self.level[key] == level]
            before = {key: [centers[a][0] for a, b in self.edges if b == key and a in centers] or [0.0] for key in row}
            row.sort(key=lambda key: float(np.mean(before[key])))
            widths = [self.boxes[key].width + _SIDES for key in row]
            starts = np.cumsum([0.0, *widths])[:-1] - sum(widths) / 2
            for key, start, width in zip(row, starts, widths, strict=True):
                centers[key] = (float(start) + width / 2, -level * (_BOX + _GAP))
        return centers

    def _lanes(self, edges: Iterable[Edge]) -> dict[str, int]:
        """The lane of every node with long outgoing edges; nodes share a lane if their edges do not meet."""
        spans: dict[str, tuple[int, int]] = {}
        for a, b in edges:
            low, high = sorted((self.level[a], self.level[b]))
            known = spans.get(a, (low, high))
            spans[a] = (min(low, known[0]), max(high, known[1]))
        lanes: dict[str, int] = {}
        for key, (low, high) in sorted(spans.items(), key=lambda one: one[1][1] - one[1][0]):
            meeting = {lanes[one] for one in lanes if spans[one][0] <= high and low <= spans[one][1]}
            lanes[key] = next(lane for lane in range(len(lanes) + 1) if lane not in meeting)
        return lanes

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of everything."""
        sides = [self._beside(lanes) for lanes in (self.back, self.down)]
        lowest = min(y for _, y in self.center.values())
        margin = _BOX / 2 + _SIDES / 2
        ends = [key for key in self.back if self.center[key][1] == lowest]
        tops = any(self.level[b] == 0 for a, b in self.edges if self._step((a, b)) < 1)
        return -sides[0], sides[1], lowest - margin - bool(ends) * _GAP / 2, margin + tops * _GAP / 2

    def _beside(self, lanes: Mapping[str, int]) -> float:
        return self.edge_of_boxes + _SIDES + _LANE * (max(lanes.values(), default=-1) + 1)

    def draw(self, axes: Axes) -> None:
        """Draw arrows, then boxes."""
        for edge in self.edges:
            step = self._step(edge)
            color = INK if step == 1 else COLORS[list(self.boxes).index(edge[0]) % len(COLORS)]
            _arrow(axes, self._straight(edge) if step == 1 else self._around(edge), color, dashed=step < 1)
        for key, box in self.boxes.items():
            _draw_box(axes, box, self.center[key])

    def _straight(self, edge: Edge) -> list[Point]:
        (x0, y0), (x1, y1) = (self.center[key] for key in edge)
        return [(x0, y0 - _BOX / 2), (x1, y1 + _BOX / 2)]

    def _around(self, edge: Edge) -> list[Point]:
        """The path out of one box at the bottom, along a lane, and into the other from the top."""
        (x0, y0), (x1, y1) = (self.center[key] for key in edge)
        side, lanes = (1, self.down) if self._step(edge) > 1 else (-1, self.back)
        lane = side * (self.edge_of_boxes + _SIDES / 2 + _LANE * lanes[edge[0]])
        arriving = [one for one in self.edges if one[1] == edge[1] and self._step(one) != 1]
        rank = (arriving.index(edge) + 1) / (len(arriving) + 1)
        out, into = y0 - _BOX / 2 - 0.3 * _GAP, y1 + _BOX / 2 + (0.35 + 0.3 * rank) * _GAP
        leaves = x0 + side * 0.3 * self.boxes[edge[0]].width
        enters = x1 + side * (0.1 + 0.35 * rank) * self.boxes[edge[1]].width
        return [
            (leaves, y0 - _BOX / 2),
            (leaves, out),
            (lane, out),
            (lane, into),
            (enters, into),
            (enters, y1 + _BOX / 2),
        ]


def _arrow(axes: Axes, points: Sequence[Point], color: str, *, dashed: bool) -> None:
    arrow = FancyArrowPatch(
        path=_rounded(points),
        arrowstyle="-|>",
        mutation_scale=8,
        color=color,
        linewidth=1.1,
        linestyle=(0, (3, 2)) if dashed else "-",
        fill=False,
    )
    axes.add_patch(arrow)


def _rounded(points: Sequence[Point]) -> Path:
    """A path through points with rounded corners."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(corner: Point, other: Point) -> Point:
    a, b = np.asarray(corner), np.asarray(other)
    x, y = a + (b - a) * min(0.5, _ROUND / max(float(np.hypot(*(b - a))), 1e-9))
    return float(x), float(y)


def _draw_box(axes: Axes, box: Box, center: Point) -> None:
    x, y = center
    corner = (x - box.width / 2, y - _BOX / 2)
    style = f"round,pad=0,rounding_size={_ROUND}"
    axes.add_patch(FancyBboxPatch(corner, box.width, _BOX, style, edgecolor=box.color, facecolor="none", linewidth=1.4))
    rise = 0.085 if box.detail else 0.0
    axes.text(x, y + rise, box.name, ha="center", va="center", fontsize=_FONT, color=box.color, parse_math=False)
    if box.detail:
        axes.text(x, y - rise, box.detail, ha="center", va="center", fontsize=_FONT - 1.5, parse_math=False)

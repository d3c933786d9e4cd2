"""Tables for the terminal, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WORD = 30  # length of a word up to which no column breaks it


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> RenderableType:
    """A table of plain text: markup is printed verbatim.

    If the terminal is too narrow for the longest words of all columns, each row becomes a paragraph with a line for
    every value.

    Args:
        columns: headings.
        rows: one sequence of values per row; None prints as a dash.
        right: headings of the columns to align right.
    """
    return _Fitting(columns, [["-" if value is None else str(value) for value in row] for row in rows], right)


@dataclass
class _Fitting:
    """A table where it fits, paragraphs where it does not."""

    columns: Sequence[str]
    rows: list[list[str]]
    right: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words = [max(map(_longest_word, column)) for column in zip(self.columns, *self.rows, strict=True)]
        if sum(words) + 3 * len(words) <= options.max_width:
            yield self._table(words)
        else:
            yield from map(self._paragraph, self.rows)

    def _table(self, words: list[int]) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name, width in zip(self.columns, words, strict=True):
            side: Literal["left", "right"] = "right" if name in self.right else "left"
            made.add_column(name, justify=side, overflow="fold", min_width=width)
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made

    def _paragraph(self, row: list[str]) -> Group:
        first, *others = zip(self.columns, row, strict=True)
        lines = [Padding(Text(f"{name}: {value}"), (0, 0, 0, 2)) for name, value in others if value]
        return Group(Text(first[1], style="bold"), *lines)


def _longest_word(text: str) -> int:
    return max((min(len(word), WORD) for word in text.split()), default=1)


def result_table(result: Mapping[str, Any]) -> RenderableType:
    """The result of a run, from the object that ``neurai train --json`` prints."""
    rows = [
        (
            f"train ({own})" if (own := result.get("own_loss")) else "train",
            *_scores(result, "train"),
            None if result["step_ms"] is None else f"{result['step_ms']:.3f} ms",
        ),
        (f"test ({own})" if own and result.get("probe") else "test", *_scores(result, "test"), None),
    ]
    columns = ("loss", "probe's accuracy" if result.get("probe") else "accuracy", "time per step")
    return table((f"{result['rule']} on {result['data']}", *columns), rows, right=columns)


def alignment_table(alignment: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """A rule's gradients compared with the true ones: a row per entry of the parameters, a column per measure."""
    entries = dict.fromkeys(entry for values in alignment.values() for entry in values)
    columns = tuple(measure.replace("_", " ") for measure in alignment)
    rows = [(entry, *(_rounded(values.get(entry)) for values in alignment.values())) for entry in entries]
    return table(("gradient of", *columns), rows, right=columns)


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _scores(result: Mapping[str, Any], part: str) -> tuple[str | None, str | None]:
    loss, accuracy = result[f"{part}_loss"], result[f"{part}_accuracy"]
    return (None if loss is None else f"{loss:.4g}", None if accuracy is None else f"{accuracy:.4f}")

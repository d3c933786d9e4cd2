"""Tables for the terminal, as rich draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table of plain texts: what looks like markup is printed as it is.

    Args:
        columns: headings.
        rows: one sequence of values per row; None prints as a dash.
        right: headings of the columns to align right.
    """
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text("-" if value is None else str(value)) for value in row))
    return made


def result_table(result: Mapping[str, Any]) -> Table:
    """What a run came to, from the object that ``neurai train --json`` prints."""
    rows = [
        ("train", *_scores(result, "train"), f"{result['step_ms']:.3f} ms"),
        ("test", *_scores(result, "test"), None),
    ]
    columns = ("loss", "accuracy", "time per step")
    return table((f"{result['rule']} on {result['data']}", *columns), rows, right=columns)


def alignment_table(alignment: Mapping[str, Mapping[str, float]]) -> Table:
    """How a rule's gradients stand to the true ones: a row per entry of the parameters, a column per measure."""
    entries = dict.fromkeys(entry for values in alignment.values() for entry in values)
    columns = tuple(measure.replace("_", " ") for measure in alignment)
    rows = [(entry, *(_rounded(values.get(entry)) for values in alignment.values())) for entry in entries]
    return table(("gradient of", *columns), rows, right=columns)


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _scores(result: Mapping[str, Any], part: str) -> tuple[str | None, str | None]:
    loss, accuracy = result[f"{part}_loss"], result[f"{part}_accuracy"]
    return (None if loss is None else f"{loss:.4g}", None if accuracy is None else f"{accuracy:.4f}")

"""Markdown, line by line: tables, lists, code and links of the computed pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Lines = Iterator[str]


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Lines:
    """A table; columns that hold nothing are left out."""
    found = list(rows)
    kept = [i for i in range(len(headings)) if any(row[i] for row in found)]
    yield _row(headings[i] for i in kept)
    yield _row("---" for _ in kept)
    yield from (_row(row[i].replace("|", "\\|") for i in kept) for row in found)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def listed(facts: dict[str, str]) -> Lines:
    """Facts as a list, those that are stated."""
    yield from (f"- {name}: {sentence(text)}" for name, text in facts.items() if text)
    yield ""


def sentence(text: str) -> str:
    """A text with its first letter large and a full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def code(text: str) -> str:
    """A text as code; nothing stays nothing."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    """Several texts as code."""
    return ", ".join(map(code, texts))


def link(name: str) -> str:
    """A name, linked to its section on the same page."""
    return f"[`{name}`](#{name})"


def first_line(thing: Any) -> str:
    """The first line of a docstring."""
    return (thing.__doc__ or "").splitlines()[0]

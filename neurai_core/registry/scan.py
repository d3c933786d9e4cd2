"""Installed plugins, from one scan of the entry points.

No plugin is imported here. A distribution's name and version are read from its metadata only on demand,
because parsing it costs more than the rest of the scan.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurai_core.naming import canonical, normalize_distribution
from neurai_core.registry.entries import Entry, said
from neurai_core.registry.kinds import Kind

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint


@dataclass(frozen=True)
class Unreadable:
    """A distribution whose entry points cannot be read, and why."""

    distribution: str
    version: str
    error: Exception

    def __str__(self) -> str:
        return (
            f"the metadata of the distribution {self.distribution} {self.version} are damaged, and a library that "
            f"reads those of every distribution fails on them ({type(self.error).__name__}: {self.error})"
        )

    @property
    def hint(self) -> str:
        """What to do about it."""
        return f"Install {self.distribution} again, or remove it."


class Index:
    """Every entry of every kind, from one scan.

    Attributes:
        unreadable: distributions whose entry points cannot be read; they are left out.
    """

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._mark, self._metadata = fingerprint(), metadata_folders()
        self._entries: dict[str, dict[str, list[Entry]]] = {kind.name: {} for kind in kinds}
        groups = {kind.group: kind.name for kind in kinds}
        points, self.unreadable = _entry_points()
        same: dict[tuple[str, int, str], list[EntryPoint]] = {}
        for point in points:
            if point.group in groups:
                same.setdefault((groups[point.group], id(point.dist), point.value), []).append(point)
        for (kind, _, _), named in same.items():
            self._add(_entry(kind, named))

    def _add(self, entry: Entry) -> None:
        for key in entry.keys:
            self._entries[entry.kind].setdefault(key, []).append(entry)

    def entries(self, kind: str) -> Iterator[Entry]:
        """The entries of a kind, sorted by name."""
        for key, same in sorted(self._entries[kind].items()):
            yield from (entry for entry in same if entry.key == key)

    def find(self, kind: str, key: str) -> list[Entry]:
        """The entries of a kind under a canonical name: none, one, or several that clash."""
        return self._entries[kind].get(key, [])

    def stale(self) -> bool:
        """Whether ``sys.path``, or a distribution's metadata on it, changed since the scan.

        A folder also changes when an import writes bytecode into it; that alone does not require a scan.
        """
        mark = fingerprint()
        if mark == self._mark:
            return False
        same_path = [path for path, _ in mark] == [path for path, _ in self._mark]
        self._mark = mark
        return not (same_path and metadata_folders() == self._metadata)


def _entry(kind: str, points: list[EntryPoint]) -> Entry:
    """One entry for the entry points of one distribution that name one object: a plugin and its aliases.

    Its name is that of the object if an entry point has it, else the first in the distribution's list.
    """
    attribute = canonical(points[0].value.rpartition(":")[2])
    first = next((point for point in points if canonical(point.name) == attribute), points[0])
    aliases = tuple(point.name for point in points if canonical(point.name) != canonical(first.name))
    return Entry(kind, first.name, first.value, first, aliases)


def fingerprint() -> tuple[tuple[str, int], ...]:
    """``sys.path`` with the modification time of each folder."""
    return tuple((path, _changed(path)) for path in sys.path)


def metadata_folders() -> tuple[tuple[str, str, int], ...]:
    """Every distribution's metadata on ``sys.path`` with its modification time."""
    return tuple(sorted(found for path in sys.path for found in _metadata_in(path)))


def _metadata_in(path: str) -> list[tuple[str, str, int]]:
    try:
        with os.scandir(path or ".") as entries:
            kept = [entry for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
            return [(path, entry.name, entry.stat().st_mtime_ns) for entry in kept]
    except OSError:
        return []


def _changed(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return -1


def _entry_points() -> tuple[list[EntryPoint], list[Unreadable]]:
    import importlib_metadata

    try:
        return list(importlib_metadata.entry_points()), []
    except Exception:
        # One unreadable file would hide every plugin; the slow walk skips only its distribution.
        return _walk()


def _walk() -> tuple[list[EntryPoint], list[Unreadable]]:
    import importlib_metadata

    points: list[EntryPoint] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        name = said(distribution, "name")
        if normalize_distribution(name) in seen:
            continue
        seen.add(normalize_distribution(name))
        try:
            points.extend(distribution.entry_points)
        except Exception as error:
            unreadable.append(Unreadable(name, said(distribution, "version"), error))
    return points, unreadable


def damaged_by(error: BaseException | None) -> Unreadable | None:
    """The distribution whose unreadable metadata made a library's scan of all distributions fail, if any."""
    while error is not None:
        modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(name.startswith(("importlib.metadata", "importlib_metadata")) for name in modules):
            return next(iter(_walk()[1]), None)
        error = error.__cause__ or error.__context__
    return None

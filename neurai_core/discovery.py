"""Which plugins are installed: one scan of the entry points, and what the environment says about them.

Nothing of a plugin is imported here. A distribution's own name and version are read from its metadata only
when asked for, because parsing it costs more than the whole rest of the scan.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from neurai_core.errors import UnknownName, UsageError
from neurai_core.naming import canonical, did_you_mean, normalize_distribution, split_qualified

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

CORE = "neurai"
IN_PROCESS = "in-process"


@dataclass(frozen=True)
class Kind:
    """A kind of plugin; one row of the table `KINDS`.

    Attributes:
        name: singular, also the front door's function.
        plural: for lists.
        group: entry-point group.
        spec: ``"module:class"`` that its specs are instances of.
        builds: ``"module:class"`` that what its plugins build are instances of; empty for anything.
        admit: ``"module:function"`` that takes what a plugin built, its entry and what it was built with, and returns
            what is handed on; empty to hand on whatever was built.
    """

    name: str
    plural: str
    group: str
    spec: str
    builds: str = ""
    admit: str = ""


KINDS = (
    Kind(
        "algorithm",
        "algorithms",
        "neurai.algorithms",
        "neurai_core.specs:AlgorithmSpec",
        admit="neurai_core.contract:admit",
    ),
    Kind(
        "surrogate",
        "surrogates",
        "neurai.surrogates",
        "neurai_core.specs:SurrogateSpec",
        "neurai_core.surrogates:Surrogate",
    ),
    Kind("adapter", "adapters", "neurai.adapters", "neurai_core.specs:AdapterSpec", "neurai_core.adapting:Adapter"),
    Kind(
        "dataset", "datasets", "neurai.datasets", "neurai_core.specs:DatasetSpec", "neurai_core.training.data:Dataset"
    ),
)
OBSERVER = Kind("observer", "observers", "neurai.observers", "")


@dataclass(frozen=True, eq=False)
class Entry:
    """A plugin that a distribution offers under one or several names, or that was registered in this process.

    Attributes:
        kind: name of its kind.
        name: lookup name as the distribution writes it.
        value: ``"module:attribute"``; empty for a plugin registered in this process.
        point: the entry point; None for a plugin registered in this process.
        aliases: further lookup names.
    """

    kind: str
    name: str
    value: str = ""
    point: EntryPoint | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """The name in the form in which names are compared."""
        return canonical(self.name)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The name and the aliases in the form in which names are compared."""
        return tuple(dict.fromkeys(map(canonical, (self.name, *self.aliases))))

    @cached_property
    def distribution(self) -> str:
        """Name of the distribution that offers it."""
        return _said(self.point.dist, "name") if self.point and self.point.dist else IN_PROCESS

    @cached_property
    def version(self) -> str:
        """Version of that distribution; empty for a plugin registered in this process."""
        return _said(self.point.dist, "version") if self.point and self.point.dist else ""

    @property
    def builtin(self) -> bool:
        """Whether it belongs to the distribution of the core itself."""
        return self.comes_from(CORE)

    def comes_from(self, distribution: str) -> bool:
        """Whether the distribution of that name offers it."""
        return normalize_distribution(self.distribution) == normalize_distribution(distribution)

    def matches(self, item: str) -> bool:
        """Whether an item of a switch means it: a name, a distribution, or ``name@distribution``."""
        name, distribution = split_qualified(item)
        if distribution:
            return canonical(name) in self.keys and self.comes_from(distribution)
        return canonical(name) in self.keys or self.comes_from(name)

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.name}@{self.distribution}{version}"


@dataclass(frozen=True)
class Switches:
    """What the environment says about plugins, read anew for every decision.

    Attributes:
        only: items of ``NEURAI_ONLY``, or None when it is not set.
        block: items of ``NEURAI_BLOCK``.
        prefer: canonical name -> distribution, from ``NEURAI_PREFER``.
        autoload: False when ``NEURAI_DISABLE_PLUGIN_AUTOLOAD`` is set.
    """

    only: tuple[str, ...] | None
    block: tuple[str, ...]
    prefer: Mapping[str, str]
    autoload: bool

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Switches:
        """The switches of an environment.

        Raises:
            UsageError: ``NEURAI_PREFER`` is not a list of ``name=distribution``.
        """
        return cls(
            only=_items(environ["NEURAI_ONLY"]) if "NEURAI_ONLY" in environ else None,
            block=_items(environ.get("NEURAI_BLOCK", "")),
            prefer=dict(map(_preference, _items(environ.get("NEURAI_PREFER", "")))),
            autoload=environ.get("NEURAI_DISABLE_PLUGIN_AUTOLOAD", "") in ("", "0"),
        )

    def blocked_by(self, entry: Entry) -> str:
        """The switch that keeps an installed plugin out, as it is set; empty when none does."""
        blocking = [item for item in self.block if entry.matches(item)]
        if blocking:
            return f"NEURAI_BLOCK={blocking[0]}"
        if (self.autoload and self.only is None) or entry.builtin:
            return ""
        if not self.autoload:
            return "NEURAI_DISABLE_PLUGIN_AUTOLOAD=1"
        only = self.only or ()
        return "" if any(map(entry.matches, only)) else f"NEURAI_ONLY={','.join(only)}"


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

        A folder also changes when an import writes bytecode into it; that alone is not worth a scan.
        """
        mark = fingerprint()
        if mark == self._mark:
            return False
        same_path = [path for path, _ in mark] == [path for path, _ in self._mark]
        self._mark = mark
        return not (same_path and metadata_folders() == self._metadata)


def _entry(kind: str, points: list[EntryPoint]) -> Entry:
    """One entry for the entry points of one distribution that name one object: a plugin and its aliases.

    Its name is that of the object, where an entry point has it, or else the first in the distribution's list.
    """
    attribute = canonical(points[0].value.rpartition(":")[2])
    first = next((point for point in points if canonical(point.name) == attribute), points[0])
    aliases = tuple(point.name for point in points if canonical(point.name) != canonical(first.name))
    return Entry(kind, first.name, first.value, first, aliases)


def find_kind(kinds: Mapping[str, Kind], given: str) -> Kind:
    """The kind of a name, singular or plural.

    >>> find_kind({kind.name: kind for kind in KINDS}, "Surrogates").name
    'surrogate'
    """
    key = canonical(given)
    for kind in kinds.values():
        if key in (canonical(kind.name), canonical(kind.plural)):
            return kind
    raise UnknownName(f"No kind is named {given!r}.{did_you_mean(given, kinds)}", f"Kinds: {', '.join(kinds)}.")


def fingerprint() -> tuple[tuple[str, int], ...]:
    """``sys.path`` with the time at which each folder last changed."""
    return tuple((path, _changed(path)) for path in sys.path)


def metadata_folders() -> tuple[tuple[str, str, int], ...]:
    """Every distribution's metadata on ``sys.path`` with the time at which it last changed."""
    return tuple(sorted(found for path in sys.path for found in _metadata_in(path)))


def _metadata_in(path: str) -> list[tuple[str, str, int]]:
    try:
        with os.scandir(path or ".") as entries:
            kept = [entry for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
            return [(path, entry.name, entry.stat().st_mtime_ns) for entry in kept]
    except OSError:
        return []


def core_version() -> str:
    """The installed version of the core."""
    import importlib_metadata

    return importlib_metadata.version(CORE)


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
        # One unreadable file would hide every plugin; the slow walk leaves out only its distribution.
        return _walk()


def _walk() -> tuple[list[EntryPoint], list[Unreadable]]:
    import importlib_metadata

    points: list[EntryPoint] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        name = _said(distribution, "name")
        if normalize_distribution(name) in seen:
            continue
        seen.add(normalize_distribution(name))
        try:
            points.extend(distribution.entry_points)
        except Exception as error:
            unreadable.append(Unreadable(name, _said(distribution, "version"), error))
    return points, unreadable


def damaged_by(error: BaseException | None) -> Unreadable | None:
    """The distribution of unreadable metadata on which some library's scan of all of them failed, if one did."""
    while error is not None:
        modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(name.startswith(("importlib.metadata", "importlib_metadata")) for name in modules):
            return next(iter(_walk()[1]), None)
        error = error.__cause__ or error.__context__
    return None


def _said(distribution: Any, field: str) -> str:
    """The name or version in a distribution's metadata; a question mark when it has no metadata."""
    try:
        return getattr(distribution, field) or "?"
    except (FileNotFoundError, KeyError):
        return "?"


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _preference(item: str) -> tuple[str, str]:
    name, equals, distribution = item.partition("=")
    if not (name.strip() and equals and distribution.strip()):
        raise UsageError(
            f"NEURAI_PREFER holds {item!r}, expected name=distribution.",
            "For example NEURAI_PREFER=my-rule=some-dist.",
        )
    return canonical(name), distribution.strip()


def trace(text: str) -> None:
    """Say on stderr what is loaded, when ``NEURAI_TRACE`` is set."""
    if os.environ.get("NEURAI_TRACE", "") not in ("", "0"):
        print(f"neurai: {text}", file=sys.stderr)

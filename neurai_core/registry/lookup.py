"""Lookup of the one entry that a name refers to, or an error with alternatives. Imports no plugin."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterable

from neurai_core.errors import BlockedName, DuplicateName, UnknownName, UsageError
from neurai_core.naming import a, canonical, split_qualified, suggest
from neurai_core.registry.entries import Entry
from neurai_core.registry.kinds import Kind, find_kind
from neurai_core.registry.scan import Index, Unreadable
from neurai_core.registry.switches import Switches, trace


class Lookup:
    """Installed entries and those registered in this process.

    The scan runs on first use, and again if a name is missing and ``sys.path`` or a folder on it has changed.

    Args:
        kinds: the table of kinds.
        lock: held while the index changes.
        on_rescan: called after a new scan, which creates new entry objects.
    """

    def __init__(self, kinds: Iterable[Kind], lock: threading.RLock, on_rescan: Callable[[], None]) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self._on_rescan = on_rescan
        self._lock = lock
        self._scanned: Index | None = None
        self._local: tuple[tuple[Entry, bool], ...] = ()

    def kind(self, given: str) -> Kind:
        """The kind with a given name, singular or plural."""
        return find_kind(self.kinds, given)

    def add(self, entries: Iterable[Entry], *, replaces: bool) -> None:
        """Add entries of this process; with ``replaces`` they hide others of the same name."""
        with self._lock:
            self._local = (*((entry, replaces) for entry in entries), *self._local)

    def discard(self, entries: Iterable[Entry]) -> None:
        """Remove entries of this process."""
        gone = set(entries)
        with self._lock:
            self._local = tuple(one for one in self._local if one[0] not in gone)

    def find(self, kind: str, name: str) -> Entry:
        """The one entry of a name, which may be qualified; scans again once if it is missing.

        Raises:
            UnknownName: nothing has that name; `BlockedName` if the environment blocks it.
            DuplicateName: several distributions offer it and none was chosen.
        """
        kind = self.kind(kind).name
        if not isinstance(name, str):
            raise UsageError(f"The name of {a(kind)} is a {type(name).__name__}, expected a string.")
        entry = self._choose(kind, name)
        if entry is None and self.refresh():
            entry = self._choose(kind, name)
        if entry is None:
            raise self._unknown(kind, name)
        return entry

    def entries(self, kind: str) -> tuple[Entry, ...]:
        """Every entry of a kind by name, including blocked and clashing ones, but not those hidden by a replacement."""
        local = {entry.key for entry, _ in self._local if entry.kind == kind}
        keys = sorted(local | {entry.key for entry in self._index().entries(kind)})
        return tuple(entry for key in keys for entry in self.candidates(kind, key) if entry.key == key)

    def usable(self, kind: str) -> tuple[Entry, ...]:
        """The entries of a kind that the environment does not block."""
        switches = Switches.read()
        return tuple(entry for entry in self.entries(kind) if not switches.blocked_by(entry))

    def candidates(self, kind: str, key: str) -> list[Entry]:
        """Every entry under a canonical name, those of this process first."""
        local = [one for one in self._local if one[0].kind == kind and key in one[0].keys]
        if local and local[0][1]:
            return [local[0][0]]
        return [entry for entry, _ in local] + self._index().find(kind, key)

    @property
    def unreadable(self) -> list[Unreadable]:
        """Distributions whose entry points cannot be read."""
        return self._index().unreadable

    def refresh(self) -> bool:
        """Scan again if ``sys.path`` or a folder on it changed since the last scan; return whether it did."""
        with self._lock:
            if self._scanned is None or not self._scanned.stale():
                return False
            importlib.invalidate_caches()
            self._scanned = self._scan()
            self._on_rescan()
            return True

    def _index(self) -> Index:
        scanned = self._scanned
        if scanned is not None:
            return scanned
        with self._lock:
            self._scanned = self._scanned or self._scan()
            return self._scanned

    def _scan(self) -> Index:
        start = time.perf_counter()
        index = Index(self.kinds.values())
        trace(f"scan entry points {1e3 * (time.perf_counter() - start):.1f} ms")
        return index

    def _choose(self, kind: str, name: str) -> Entry | None:
        bare, distribution = split_qualified(name)
        switches = Switches.read()
        found = [one for one in self.candidates(kind, canonical(bare)) if not switches.blocked_by(one)]
        if distribution:
            found = [entry for entry in found if entry.comes_from(distribution)]
        return preferred(found, switches) if len(found) > 1 else next(iter(found), None)

    def _unknown(self, kind: str, name: str) -> UnknownName:
        bare, distribution = split_qualified(name)
        offered = self.candidates(kind, canonical(bare))
        wanted = [entry for entry in offered if not distribution or entry.comes_from(distribution)]
        if wanted:
            switch = Switches.read().blocked_by(wanted[0])
            return BlockedName(
                f"{kind.capitalize()} {name!r} is installed but blocked by {switch}.", "Unset it to use it."
            )
        if offered:
            message = f"{kind.capitalize()} {bare!r} is not offered by {distribution!r}."
            return UnknownName(message, f"It is offered by {', '.join(entry.distribution for entry in offered)}.")
        return self._missing(kind, bare)

    def _missing(self, kind: str, name: str) -> UnknownName:
        """The error for an unknown name: another kind that has it, or a likely intended name."""
        message, others = f"No {kind} is named {name!r}", [other for other in self.kinds if other != kind]
        for other in others:
            if any(canonical(name) in entry.keys for entry in self.usable(other)):
                return UnknownName(f"{message}: {name!r} is {a(other)}.", f"neurai.{other}({name!r}) finds it.")
        near = self._near(kind, name)
        if near:
            return UnknownName(f"{message}. Did you mean {near!r}?", self._installed(kind))
        for other in others:
            near = self._near(other, name)
            if near:
                return UnknownName(f"{message}. Did you mean the {other} {near!r}?", self._installed(kind))
        return UnknownName(f"{message}.", self._installed(kind))

    def _near(self, kind: str, name: str) -> str | None:
        """The name of the plugin of a kind with the nearest name or alias."""
        entries = list(self.usable(kind))
        aliases = {alias: entry.name for entry in entries for alias in entry.aliases}
        known = {entry.name: entry.name for entry in entries} | aliases  # of two equally near, the name
        return known.get(suggest(name, known) or "")

    def _installed(self, kind: str) -> str:
        names = dict.fromkeys(entry.name for entry in self.usable(kind))
        return f"Installed {self.kinds[kind].plural}: {', '.join(names) or 'none'}."


def preferred(entries: list[Entry], switches: Switches) -> Entry:
    """The one that ``NEURAI_PREFER`` chooses among entries of one name.

    Raises:
        DuplicateName: it chooses none of them.
    """
    choices = [switches.prefer[key] for key in _shared_keys(entries) if key in switches.prefer]
    chosen = [entry for entry in entries if any(map(entry.comes_from, choices))]
    if len(chosen) != 1:
        raise duplicate(entries)
    return chosen[0]


def duplicate(entries: list[Entry]) -> DuplicateName:
    """The error for several entries of one name, with the ways to choose."""
    first, shared = entries[-1], _shared_keys(entries)
    name = next((entry.name for entry in reversed(entries) if entry.key in shared), first.name)
    distribution = first.distribution
    return DuplicateName(
        f"{first.kind.capitalize()} {name!r} is offered by {' and by '.join(map(str, entries))}.",
        f"Choose one with {name + '@' + distribution!r}, with NEURAI_PREFER={name}={distribution}, "
        f"or by blocking the other with NEURAI_BLOCK={entries[0].distribution}.",
    )


def _shared_keys(entries: list[Entry]) -> list[str]:
    return [key for key in entries[0].keys if all(key in entry.keys for entry in entries)]

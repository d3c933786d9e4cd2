"""The list of plugins, with the state of each: as it is known, as it loads now, or as it loads in another process."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from neurai_core.errors import MissingExtra, PluginError
from neurai_core.registry.entries import Entry
from neurai_core.registry.kinds import OBSERVER
from neurai_core.registry.ledger import Ledger
from neurai_core.registry.lookup import Lookup
from neurai_core.registry.status import PluginStatus, Row, statuses, unreadable_status


class Listing:
    """Every plugin that the lookup knows, with what became of it.

    Args:
        lookup: finds entries by name.
        ledger: knows which ones were loaded and which failed.
    """

    def __init__(self, lookup: Lookup, ledger: Ledger) -> None:
        self._lookup, self._ledger = lookup, ledger

    def plugins(self, *, passive: bool, isolate: bool) -> tuple[PluginStatus, ...]:
        """One row per plugin.

        Args:
            passive: load nothing in this process.
            isolate: load each plugin in a separate process.
        """
        self._lookup.refresh()
        rows: list[Row] = []
        for kind in self._lookup.kinds:
            rivals = (lambda one: [one]) if kind == OBSERVER else self._rivals  # any number may observe under one name
            rows += statuses(self._lookup.entries(kind), rivals, self._known_state if passive else self._state)
        found = self._isolated(rows) if isolate else [self._ledger.remarked(*row) for row in rows]
        return (*found, *map(unreadable_status, self._lookup.unreadable))

    def vet(self, entries: Iterable[Entry]) -> None:
        """Load third-party plugins not used so far in another process; those that crash or hang count as failed."""
        from neurai_core.registry.isolation import vet

        known = {*self._ledger.loaded, *self._ledger.failed}
        strangers = [one for one in entries if one.point and one not in known and not one.builtin]
        self._ledger.failed |= vet([(one, self._lookup.kinds[one.kind]) for one in strangers])

    def _rivals(self, entry: Entry) -> list[Entry]:
        """All entries found under the name of an entry, including itself."""
        return self._lookup.candidates(entry.kind, entry.key)

    def _known_state(self, entry: Entry) -> PluginError | MissingExtra | str:
        return self._ledger.failed.get(entry) or ("ok" if entry in self._ledger.loaded else "unloaded")

    def _state(self, entry: Entry) -> PluginError | MissingExtra | str:
        from neurai_core.registry.loading import check_extras

        try:
            check_extras(self._ledger.load(entry, self._lookup.kinds[entry.kind]).spec)
        except (PluginError, MissingExtra) as error:
            return error
        return self._ledger.failed.get(entry) or "ok"

    def _isolated(self, rows: Iterable[Row]) -> list[PluginStatus]:
        from neurai_core.registry.isolation import load_isolated

        def settle(row: Row) -> PluginStatus:
            entry, status = row
            if entry.point is None or status.status in ("blocked", "duplicate"):
                return status
            said = load_isolated(entry, self._lookup.kinds[entry.kind])
            return replace(status, **{name: said[name] for name in ("status", "step", "error", "hint")})

        with ThreadPoolExecutor() as pool:
            return list(pool.map(settle, rows))

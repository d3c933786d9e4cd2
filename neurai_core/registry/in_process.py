"""Plugins registered in this process, for notebooks and tests: under free names, or in front of installed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from neurai_core.errors import DuplicateName
from neurai_core.registry.entries import Entry
from neurai_core.registry.ledger import Ledger
from neurai_core.registry.lookup import Lookup
from neurai_core.registry.switches import Switches

if TYPE_CHECKING:
    from neurai_core.registry.loading import Loaded
    from neurai_core.specs import PluginSpec


class InProcess:
    """Adds plugin objects to a lookup and its ledger. The caller holds the lock of the registry.

    Args:
        lookup: finds entries by name.
        ledger: holds the plugins that were loaded.
        on_change: called before every change to what can be found.
    """

    def __init__(self, lookup: Lookup, ledger: Ledger, on_change: Callable[[], None]) -> None:
        self._lookup, self._ledger, self._on_change = lookup, ledger, on_change

    def register(self, plugin: Any, *, replace: bool) -> PluginSpec:
        """Add a plugin that is not registered yet; its spec.

        Args:
            plugin: the plugin object.
            replace: remove those registered earlier under one of its names.

        Raises:
            PluginError: its hooks or its spec are wrong.
            DuplicateName: a name is taken.
        """
        for entry, loaded in self._ledger.loaded.items():
            if entry.point is None and loaded.manager.is_registered(plugin):
                return loaded.spec
        new = self._admit(plugin)
        earlier = self._earlier(new) if replace else []
        self._refuse(new, allowed=earlier)
        self.remove(earlier)
        self._put(new, replaces=False)
        return next(iter(new.values())).spec

    def add(self, plugin: Any, *, hides: bool) -> dict[Entry, Loaded]:
        """Add a plugin, and return its entries.

        Args:
            plugin: the plugin object.
            hides: put it in front of all others of its names, which must otherwise be free.

        Raises:
            PluginError: its hooks or its spec are wrong.
            DuplicateName: a name is taken.
        """
        new = self._admit(plugin)
        if not hides:
            self._refuse(new, allowed=[])
        self._put(new, replaces=hides)
        return new

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove plugins that were added."""
        self._on_change()
        gone = list(entries)
        self._lookup.discard(gone)
        self._ledger.forget(gone)

    def _admit(self, plugin: Any) -> dict[Entry, Loaded]:
        from neurai_core.registry.loading import admit_local

        return admit_local(plugin, self._lookup.kind)

    def _put(self, new: Mapping[Entry, Loaded], *, replaces: bool) -> None:
        self._on_change()
        self._ledger.loaded.update(new)
        self._lookup.add(new, replaces=replaces)

    def _earlier(self, new: Iterable[Entry]) -> list[Entry]:
        """Entries of plugins registered earlier under one of these names."""
        same = [one for entry in new for one in self._of_these_names(entry) if one.point is None]
        managers = [self._ledger.loaded[entry].manager for entry in same]
        return [entry for entry, loaded in self._ledger.loaded.items() if loaded.manager in managers]

    def _of_these_names(self, entry: Entry) -> list[Entry]:
        """All entries with the name of an entry, or one of its aliases."""
        return [one for key in entry.keys for one in self._lookup.candidates(entry.kind, key)]

    def _refuse(self, new: Iterable[Entry], allowed: list[Entry]) -> None:
        switches = Switches.read()
        for entry in new:
            for one in self._of_these_names(entry):
                if one not in allowed and not switches.blocked_by(one):
                    raise DuplicateName(
                        f"{entry.kind.capitalize()} {entry.name!r} cannot be registered: {one} has the name.",
                        "Choose another name, or hide it in a with block: temporary(plugin, replace=True).",
                    )

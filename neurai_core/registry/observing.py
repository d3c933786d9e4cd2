"""Observers: plugins whose hooks are called around steps, epochs and checkpoints.

All share one plugin manager. An installed observer that fails is removed, reported once and recorded; one that was
registered in this process is the caller's own code, so its exceptions propagate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pluggy

from neurai_core.errors import PluginError
from neurai_core.hookspecs import PROJECT, ObserverHooks
from neurai_core.registry.entries import Entry
from neurai_core.registry.failures import failure


class Observers:
    """The active observers.

    Args:
        on_failure: called with an installed observer's entry and failure after it was removed.
    """

    def __init__(self, on_failure: Callable[[Entry, PluginError], None]) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(ObserverHooks)
        self._entries: dict[int, Entry] = {}
        self._on_failure = on_failure

    def add(self, observer: Any, entry: Entry | None = None) -> None:
        """Add an observer unless it is active already; ``entry`` is given for an installed one."""
        if observer not in self:
            self._manager.register(observer, name=str(id(observer)))
        if entry is not None:
            self._entries[id(observer)] = entry

    def holds(self, entry: Entry) -> bool:
        """Whether the installed observer of this entry is active."""
        return entry in self._entries.values()

    def remove(self, observer: Any) -> None:
        """Remove an observer."""
        self._manager.unregister(observer)
        self._entries.pop(id(observer), None)

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every observer that has it, the latest first, as pluggy does.

        Args:
            hook: name of the hook, such as ``neurai_after_step``.
            **arguments: every argument of the hook, by name.
        """
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            self._call(implementation, arguments)

    def _call(self, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> None:
        entry = self._entries.get(id(implementation.plugin))
        try:
            implementation.function(*(arguments[name] for name in implementation.argnames))
        except Exception as error:
            if entry is None:
                raise
            self.remove(implementation.plugin)
            failed = failure(entry, "call", error)
            self._on_failure(entry, failed)
            warnings.warn(
                f"{failed.message} It is switched off for the rest of this run.", RuntimeWarning, stacklevel=4
            )

    def __contains__(self, observer: Any) -> bool:
        return self._manager.is_registered(observer)

    def __len__(self) -> int:
        return len(self._manager.get_plugins())

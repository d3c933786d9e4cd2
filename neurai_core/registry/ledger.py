"""The ledger of plugins: which ones were loaded, which failed and why, and which change JAX's configuration."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neurai_core.errors import PluginError
from neurai_core.registry.entries import Entry
from neurai_core.registry.kinds import Kind
from neurai_core.registry.status import PluginStatus

if TYPE_CHECKING:
    from neurai_core.registry.loading import Loaded


class Ledger:
    """What became of every plugin that was used.

    Args:
        lock: held while a plugin loads.

    Attributes:
        loaded: plugins that were loaded.
        failed: what went wrong with the others; a plugin that fails in use, after it was loaded, is in both.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.loaded: dict[Entry, Loaded] = {}
        self.failed: dict[Entry, PluginError] = {}
        self._lock = lock
        self._changes_jax: dict[Entry, str] = {}
        self._warned: set[Entry] = set()

    def load(self, entry: Entry, kind: Kind) -> Loaded:
        """The plugin of an entry, loaded once; one that failed is not tried again.

        Raises:
            PluginError: it is broken.
        """
        from neurai_core.registry.failures import again
        from neurai_core.registry.loading import load

        with self._lock:
            if entry in self.loaded:
                return self.loaded[entry]
            if entry in self.failed:
                raise again(self.failed[entry])
            self.loaded[entry] = self.guarded(entry, lambda: load(entry, kind))
            return self.loaded[entry]

    def guarded(self, entry: Entry, action: Callable[[], Any]) -> Any:
        """Do something with a plugin and record its failure; success clears an earlier one.

        Raises:
            PluginError: the action raised it.
        """
        from neurai_core.registry.failures import again
        from neurai_core.registry.jax_configuration import configuration_changes

        try:
            with configuration_changes() as changes:
                result = action()
            self._remark(entry, changes)
        except PluginError as error:
            self.failed[entry] = again(error)
            raise
        self.failed.pop(entry, None)
        return result

    def warn_of_changes(self, entry: Entry) -> None:
        """Warn, once per plugin, if it changed JAX's configuration."""
        if entry in self._changes_jax and entry not in self._warned:
            self._warned.add(entry)
            warnings.warn(f"Plugin {entry}: {self._changes_jax[entry]}", RuntimeWarning, stacklevel=4)

    def remarked(self, entry: Entry, status: PluginStatus) -> PluginStatus:
        """The status of a plugin, with a remark if it changed JAX's configuration."""
        said = self._changes_jax.get(entry)
        if said is None or status.status != "ok":
            return status
        return replace(status, step="import", error=said, hint="Ask its authors to leave that to the user.")

    def forget(self, entries: Iterable[Entry]) -> None:
        """Forget these plugins."""
        for entry in entries:
            self.loaded.pop(entry, None)
            self.failed.pop(entry, None)

    def forget_installed(self) -> None:
        """Forget every failure, and all plugins but those of this process."""
        self.forget([entry for entry in self.loaded if entry.point is not None])
        self.failed.clear()  # not a new dictionary, since observers report into this one

    def _remark(self, entry: Entry, changes: list[str]) -> None:
        if changes:
            self._changes_jax[entry] = f"It changes JAX's configuration, which is everyone's: {', '.join(changes)}."

"""Observers: objects whose hooks are called around steps, epochs and checkpoints, and which may stop a run.

All share one plugin manager. An installed observer of every run that fails is removed, reported once and recorded. One
that the caller chose is the caller's own code, so its exceptions propagate, with a note that says where they are from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pluggy

from neurai_core.errors import PluginError
from neurai_core.hookspecs import PROJECT, ObserverHooks
from neurai_core.registry.entries import Entry
from neurai_core.registry.failures import failure, place

MAY_STOP = ("neurai_before_run", "neurai_after_step", "neurai_after_epoch")
OF_STEPS = ("neurai_before_step", "neurai_after_step")


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

    @property
    def watch_steps(self) -> bool:
        """Whether any of them has a hook that is called around every step."""
        return any(getattr(self._manager.hook, name).get_hookimpls() for name in OF_STEPS)

    def notify(self, hook: str, **arguments: Any) -> str:
        """Call a hook of every observer that has it, the latest first, as pluggy does.

        Args:
            hook: name of the hook, such as ``neurai_after_step``.
            **arguments: every argument of the hook, by name.

        Returns:
            Why the run is to stop, in the words of the first observer that says so; empty if none does.
        """
        implementations = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        said = [self._call(hook, implementation, arguments) for implementation in implementations]
        return next(filter(None, said), "")

    def _call(self, hook: str, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> str:
        try:
            said = implementation.function(*(arguments[name] for name in implementation.argnames))
            if hook not in MAY_STOP or said is None:
                return ""
            if not isinstance(said, str):
                raise TypeError(f"it returned {said!r:.60}, expected a text that says why to stop, or None")
            return said
        except (Exception, SystemExit) as error:
            self._report(hook, implementation, error)
            return ""

    def _report(self, hook: str, implementation: pluggy.HookImpl, error: BaseException) -> None:
        """Switch off an installed observer of every run; pass on the exception of any other, with a note."""
        observer = implementation.plugin
        where = f"{hook}, {place(error, implementation.function)}"
        entry = self._entries.get(id(observer))
        if entry is None:
            name = getattr(observer, "__name__", type(observer).__name__)
            if isinstance(error, SystemExit):  # it would end the program without a word
                raise PluginError(f"The observer {name} called sys.exit in {where}.", step="call") from error
            error.add_note(f"Raised by the observer {name} in {where}.")
            raise error
        self.remove(observer)
        failed = failure(entry, "call", error)
        failed.message += f" This was in {where}."
        self._on_failure(entry, failed)
        warnings.warn(f"{failed.message} It is switched off for the rest of this run.", RuntimeWarning, stacklevel=5)

    def __contains__(self, observer: Any) -> bool:
        return self._manager.is_registered(observer)

    def __len__(self) -> int:
        return len(self._manager.get_plugins())

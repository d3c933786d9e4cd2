"""The registry: all queries about plugins, from their names to their objects."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from neurai_core.errors import (
    BlockedName,
    DuplicateName,
    PluginError,
    SettingsError,
    UnknownName,
)
from neurai_core.naming import canonical, did_you_mean
from neurai_core.registry.entries import IN_PROCESS, Entry
from neurai_core.registry.in_process import InProcess
from neurai_core.registry.kinds import KINDS, OBSERVER, Kind
from neurai_core.registry.ledger import Ledger
from neurai_core.registry.listing import Listing
from neurai_core.registry.lookup import Lookup
from neurai_core.registry.status import PluginStatus

if TYPE_CHECKING:
    from neurai_core.registry.loading import Loaded
    from neurai_core.registry.observing import Observers
    from neurai_core.specs import Config, Origin, PluginSpec


class Registry:
    """Registry of all plugins that are installed or registered in this process.

    Args:
        kinds: the table of kinds.
    """

    def __init__(self, kinds: Iterable[Kind] = KINDS) -> None:
        self._lock = threading.RLock()
        self._lookup = Lookup(kinds, self._lock, self._forget_installed)
        self._ledger = Ledger(self._lock)
        self._in_process = InProcess(self._lookup, self._ledger, self._count_change)
        self._listing = Listing(self._lookup, self._ledger)
        self._observers: Observers | None = None
        self._changes = 0

    @property
    def changes(self) -> int:
        """A counter of changes to what can be found; a lookup stays valid as long as it is unchanged."""
        return self._changes

    # ---- names: metadata only

    def names(self, kind: str, supports: str | None = None) -> tuple[str, ...]:
        """The names of a kind that the environment does not block, sorted; aliases are found but not listed.

        Args:
            kind: such as ``algorithm`` or ``algorithms``.
            supports: only those whose spec has this claim or need, such as ``local``. This loads every spec of the
                kind; those that fail are left out here and shown by `plugins`.

        Raises:
            UnknownName: there is no such kind.
        """
        by_key: dict[str, Entry] = {}
        for entry in self.entries(kind):
            by_key.setdefault(entry.key, entry)
        if supports is None:
            return tuple(entry.name for entry in by_key.values())
        wanted = canonical(supports)
        return tuple(one.name for key, one in by_key.items() if wanted in _tags(self._spec_or_none(kind, key)))

    def entries(self, kind: str) -> tuple[Entry, ...]:
        """The entries of a kind that the environment does not block, sorted by name; clashing ones too."""
        self._lookup.refresh()
        return self._lookup.usable(self._lookup.kind(kind).name)

    def find(self, kind: str, name: str) -> Entry:
        """The one entry of a name; imports nothing.

        Args:
            kind: such as ``algorithm``.
            name: lookup name, possibly qualified: ``pc@some-dist``.

        Raises:
            UnknownName: nothing has that name; `BlockedName` if the environment blocks it.
            DuplicateName: several distributions offer it and none was chosen.
        """
        return self._lookup.find(kind, name)

    # ---- specs: pydantic, no JAX

    def spec(self, kind: str, name: str) -> PluginSpec:
        """The spec of a plugin; imports only that plugin.

        Args:
            kind: such as ``algorithm``.
            name: lookup name, possibly qualified: ``pc@some-dist``.

        Raises:
            UnknownName: nothing has that name.
            DuplicateName: several distributions offer it.
            PluginError: its plugin is broken.
        """
        return self._ready(kind, name).spec

    def settings(self, kind: str, name: str, given: Mapping[str, Any]) -> Config:
        """The validated settings of a plugin; does not import JAX.

        Raises:
            UnknownName, DuplicateName, PluginError: as for `spec`.
            SettingsError: one line for every setting that is wrong.
        """
        return self._settings(self._ready(kind, name), given)

    # ---- objects: the first import of JAX

    def create(
        self,
        kind: str,
        name: str,
        context: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> Any:
        """Build a plugin's object, with its origin if it has a field or a method for it.

        Args:
            kind: such as ``algorithm``.
            name: lookup name, possibly qualified.
            context: arguments of the kind besides settings, such as ``{"loss": callable}``.
            settings: settings by keyword.
            recorded: the context as recorded in the origin; by default its values, callables by name.

        Raises:
            UnknownName, DuplicateName, PluginError: as for `spec`.
            SettingsError: a setting is wrong.
            MissingExtra: the plugin needs a library that is not installed.
        """
        from neurai_core.registry.loading import build
        from neurai_core.registry.origins import origin_of, with_origin

        loaded = self._ready(kind, name)
        config = self._settings(loaded, settings or {})
        context, of_kind = context or {}, self._lookup.kinds[loaded.entry.kind]
        built = self._ledger.guarded(loaded.entry, lambda: build(loaded, of_kind, config, context))
        self._ledger.warn_of_changes(loaded.entry)
        return with_origin(built, origin_of(loaded, config, context if recorded is None else recorded))

    def rebuild(
        self,
        origin: Origin,
        context: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> Any:
        """Rebuild an object from its origin.

        Args:
            origin: the origin of the object.
            context: as for `create`.
            settings: settings to change; settings that were traced must be given.
            recorded: as for `create`.

        Raises:
            UnknownName: its distribution is not installed; the hint says which it was.
            SettingsError: a setting was traced, so its value is not known.
        """
        wanted = {**origin.settings, **(settings or {})}
        traced = [key for key, value in wanted.items() if value == "traced"]
        if traced:
            lines = (f"{key}: was traced when {origin.name!r} was built, so its value is not known" for key in traced)
            raise SettingsError("\n".join(lines), f"Give it: rebuild(origin, {traced[0]}=...).")
        try:
            return self.create(origin.kind, f"{origin.name}@{origin.distribution}", context, wanted, recorded)
        except UnknownName as error:
            if isinstance(error, BlockedName) or origin.distribution == IN_PROCESS:
                raise
            pinned = f"{origin.distribution}=={origin.version}"
            raise UnknownName(error.message, f"It came from {pinned}: python -m pip install '{pinned}'.") from error

    def offers(self, kind: str | None = None) -> dict[str, str]:
        """Every documented class offered by specs, with the name of its plugin; loads every spec.

        Args:
            kind: only plugins of this kind.
        """
        return {name: one.spec.name for one in self._everything(kind) for name in one.spec.offers}

    def offered(self, class_name: str, kind: str | None = None) -> Any:
        """The documented class of a given name, from the plugin that offers it.

        The plugin of the same name is tried first, so usually no other is loaded.

        Args:
            class_name: such as ``BP``.
            kind: only plugins of this kind.

        Raises:
            UnknownName: no plugin offers it.
            DuplicateName, PluginError: the plugin of that name clashes or is broken.
        """
        for loaded in self._likely(class_name, kind):
            if class_name in loaded.spec.offers:
                return self._offered_class(loaded, class_name)
        known = self.offers(kind)
        raise UnknownName(
            f"No plugin offers a class named {class_name!r}.{did_you_mean(class_name, known)}",
            f"Offered: {', '.join(sorted(known)) or 'none'}.",
        )

    # ---- plugins and observers of this process

    def register(self, plugin: Any, *, replace: bool = False) -> PluginSpec:
        """Register a plugin object in this process, for notebooks.

        Environment switches apply to installed plugins only. Registering a plugin twice has no effect.

        Args:
            plugin: an object with the hooks ``neurai_spec`` and ``neurai_build``, such as a `Plugin`.
            replace: replace one registered earlier in this process, as when a notebook cell runs again.

        Returns:
            Its spec.

        Raises:
            PluginError: its hooks or its spec are wrong.
            DuplicateName: the name is installed, or registered already.
        """
        with self._lock:
            return self._in_process.register(plugin, replace=replace)

    @contextmanager
    def temporary(self, plugin: Any, *, replace: bool = False) -> Iterator[PluginSpec]:
        """Register a plugin object inside a ``with`` block.

        Args:
            plugin: as for `register`.
            replace: hide any other plugin of its name, including installed ones.

        Raises:
            PluginError: its hooks or its spec are wrong.
            DuplicateName: the name is taken and ``replace`` is not set.
        """
        with self._lock:
            new = self._in_process.add(plugin, hides=replace)
        try:
            yield next(iter(new.values())).spec
        finally:
            with self._lock:
                self._in_process.remove(new)

    def observers(self) -> Observers:
        """The active observers: installed ones for every run, which are loaded now, and those of this process."""
        with self._lock:
            shared = self._shared_observers()
            for entry in self._lookup.usable(OBSERVER):
                if entry not in self._ledger.failed and not shared.holds(entry):
                    try:
                        self._add_if_always(shared, entry)
                    except PluginError as error:
                        warnings.warn(f"{error.message} Runs continue without it.", RuntimeWarning, stacklevel=2)
            return shared

    @contextmanager
    def observe(self, observer: Any) -> Iterator[Any]:
        """Activate an observer inside a ``with`` block; its exceptions propagate, with a note that names its hook.

        Args:
            observer: an object or module with hooks of observers, marked with ``hookimpl``.

        Raises:
            PluginError: it is a class, or has no hook, a misspelled one, or one with unknown arguments.
        """
        from neurai_core.registry.loading import admit_observer

        admit_observer(Entry(OBSERVER, type(observer).__name__), observer)
        with self._lock:
            self._shared_observers().add(observer)
        try:
            yield observer
        finally:
            with self._lock:
                self._shared_observers().remove(observer)

    # ---- the list of plugins

    def plugins(self, *, static: bool = False, isolate: bool = False) -> tuple[PluginStatus, ...]:
        """Every plugin with its distribution, version and status.

        Args:
            static: import nothing; a plugin that was not loaded before is ``unloaded``.
            isolate: load each plugin in a separate process, so that one that crashes is listed as well.
        """
        return self._listing.plugins(passive=static or isolate, isolate=isolate)

    def vet(self, kind: str | None = None) -> None:
        """Find third-party plugins that crash or hang, by loading them in another process; these count as failed.

        Args:
            kind: only plugins of this kind; None for every one, observers too.
        """
        entries = [one for name in ([kind] if kind else self._lookup.kinds) for one in self.entries(name)]
        self._listing.vet(entries)

    # ---- loading

    def _ready(self, kind: str, name: str) -> Loaded:
        entry = self._lookup.find(kind, name)
        if entry in self._ledger.failed and entry not in self._ledger.loaded and self._lookup.refresh():
            entry = self._lookup.find(kind, name)  # what was missing may have been installed in the meantime
        return self._load(entry)

    def _load(self, entry: Entry) -> Loaded:
        return self._ledger.load(entry, self._lookup.kinds[entry.kind])

    def _count_change(self) -> None:
        self._changes += 1

    def _forget_installed(self) -> None:
        self._count_change()
        self._ledger.forget_installed()

    def _everything(self, kind: str | None) -> Iterator[Loaded]:
        """Every plugin that can be loaded; failures are recorded."""
        for one in [kind] if kind else list(self._lookup.kinds):
            for name in self.names(one):
                try:
                    loaded = self._ready(one, name)
                except (PluginError, DuplicateName):
                    continue
                yield loaded

    def _likely(self, class_name: str, kind: str | None) -> Iterator[Loaded]:
        """Plugins named like the class, then all others."""
        for one in [self._lookup.kind(kind).name] if kind else list(self._lookup.kinds):
            if any(canonical(class_name) in entry.keys for entry in self.entries(one)):
                yield self._ready(one, class_name)
        yield from self._everything(kind)

    def _offered_class(self, loaded: Loaded, class_name: str) -> Any:
        from neurai_core.registry.loading import offered_class

        return self._ledger.guarded(loaded.entry, lambda: offered_class(loaded, class_name))

    def _spec_or_none(self, kind: str, name: str) -> PluginSpec | None:
        with suppress(PluginError, DuplicateName):
            return self.spec(kind, name)
        return None

    def _settings(self, loaded: Loaded, given: Mapping[str, Any]) -> Config:
        from neurai_core.registry.loading import fill_settings

        config: Config = self._ledger.guarded(loaded.entry, lambda: fill_settings(loaded, given))
        return config

    # ---- observers

    def _add_if_always(self, shared: Observers, entry: Entry) -> None:
        """Activate the observer of an entry if its spec says that it is for every run."""
        from neurai_core.registry.loading import build, fill_settings

        loaded = self._load(entry)
        if getattr(loaded.spec, "always", False):
            kind = self._lookup.kinds[entry.kind]
            built = self._ledger.guarded(entry, lambda: build(loaded, kind, fill_settings(loaded, {}), {}))
            shared.add(built, entry)

    def _shared_observers(self) -> Observers:
        from neurai_core.registry.observing import Observers

        if self._observers is None:
            self._observers = Observers(self._ledger.failed.__setitem__)
        return self._observers


def _tags(spec: PluginSpec | None) -> set[str]:
    return {canonical(tag) for tag in (*getattr(spec, "claims", ()), getattr(spec, "needs", ""))}


REGISTRY = Registry()

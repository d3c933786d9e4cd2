"""Loading one plugin, step by step, so that a broken one affects no other and reports where it failed.

```
requirements   the distribution's requirement on the core, from metadata, before any import
import         the entry point is imported
register       its hooks are checked in a plugin manager of its own
spec           it is asked for its spec, which is checked
settings       its settings class validates the given settings
build          it builds an object (the first step that may import JAX)
```
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pluggy
from pydantic import ValidationError

from neurai_core.errors import BlockedName, UsageError, missing_extra
from neurai_core.explain import validate_settings
from neurai_core.hookspecs import PROJECT, ObserverHooks, PluginHooks
from neurai_core.naming import a, canonical, normalize_distribution
from neurai_core.plugin import Plugin, resolve
from neurai_core.registry.entries import CORE, Entry, core_version
from neurai_core.registry.failures import Refused, failure, hook_names
from neurai_core.registry.kinds import OBSERVER, Kind
from neurai_core.registry.switches import Switches, trace
from neurai_core.specs import Config, ObserverSpec, PluginSpec

OnStep = Callable[[str], object]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A plugin that passed every check: its entry, its own manager and its spec."""

    entry: Entry
    manager: pluggy.PluginManager
    spec: PluginSpec


def load(entry: Entry, kind: Kind, on_step: OnStep = lambda step: None) -> Loaded:
    """Import an installed plugin, check its hooks and ask for its spec.

    Args:
        entry: what to load.
        kind: its expected kind.
        on_step: called with the name of each step before the step begins.

    Raises:
        BlockedName: a switch in the environment blocks it; nothing was imported.
        PluginError: a step failed.
    """
    plugin = _fetch(entry, on_step)
    if kind.name == OBSERVER and not hasattr(plugin, "neurai_spec"):
        plugin = _always(entry, admit_observer(entry, plugin))
    return admit(entry, kind, plugin, on_step)


def _always(entry: Entry, observer: Any) -> Plugin:
    """The plugin of an entry point that names an observer itself, for every run."""
    summary = "Observes every run."
    return Plugin(
        ObserverSpec(name=entry.name, summary=summary, aliases=entry.aliases, always=True), lambda _: observer
    )


def admit(entry: Entry, kind: Kind, plugin: Any, on_step: OnStep = lambda step: None) -> Loaded:
    """Check the hooks of a plugin object and ask it for its spec.

    Raises:
        PluginError: a step failed.
    """
    with _step(entry, "register", on_step):
        manager = _scratch_manager(plugin, entry.name, PluginHooks)
        _check_complete(manager)
    with _step(entry, "spec", on_step):
        spec = manager.hook.neurai_spec()
        _check_spec(spec, entry, kind)
    return Loaded(entry, manager, spec)


def admit_local(plugin: Any, find_kind: Callable[[str], Kind]) -> dict[Entry, Loaded]:
    """Check a plugin object of this process; one entry for its name and its aliases.

    Args:
        plugin: the object.
        find_kind: maps the name of a kind to its row.

    Raises:
        PluginError: a step failed.
    """
    unnamed = Entry("plugin", type(plugin).__name__)
    with _step(unnamed, "register"):
        manager = _scratch_manager(plugin, unnamed.name, PluginHooks)
        _check_complete(manager)
    with _step(unnamed, "spec"):
        spec = manager.hook.neurai_spec()
        kind = find_kind(getattr(spec, "kind", "algorithm"))
        name, *aliases = _names(spec)
        entry = Entry(kind.name, name, aliases=tuple(aliases))
        _check_spec(spec, entry, kind)
    return {entry: Loaded(entry, manager, spec)}


def admit_observer(entry: Entry, observer: Any) -> Any:
    """Check the hooks of an observer.

    Raises:
        PluginError: it is a class, or implements no hook, an unknown one, one with unknown arguments, or one that
            would not be called as it is meant to be.
    """
    with _step(entry, "register"):
        if isinstance(observer, type):
            raise Refused(f"{observer.__name__} is a class, expected an instance of it: {observer.__name__}(...)")
        _check_observer(_scratch_manager(observer, entry.name, ObserverHooks), observer)
    return observer


def admit_built_observer(built: Any, entry: Entry, context: Mapping[str, Any]) -> Any:
    """`admit_observer` for one that a plugin built."""
    return admit_observer(entry, built)


def fill_settings(loaded: Loaded, given: Mapping[str, Any]) -> Config:
    """Validate settings with a plugin's settings class.

    Raises:
        SettingsError: a setting is wrong.
        PluginError: the settings class itself is broken.
    """
    with _step(loaded.entry, "settings"):
        spec = loaded.spec
        return validate_settings(spec.config, given, name=spec.name, arrays=spec.takes_arrays)


def build(loaded: Loaded, kind: Kind, config: Config, context: Mapping[str, Any]) -> Any:
    """Build a plugin's object, as admitted by its kind.

    Raises:
        MissingExtra: a library that it needs is not installed.
        PluginError: it failed; errors about the caller's arguments are raised unchanged.
    """
    check_extras(loaded.spec)
    with _step(loaded.entry, "build"):
        built = loaded.manager.hook.neurai_build(config=config, context=dict(context))
        if built is None:
            raise Refused("neurai_build returned None, expected the object")
        if kind.builds and not isinstance(built, tuple(map(resolve, kind.builds.split()))):
            expected = " or ".join(a(one.rpartition(":")[2]) for one in kind.builds.split())
            raise Refused(f"neurai_build returned {built!r:.80}, expected {expected}")
    return resolve(kind.admit)(built, loaded.entry, context) if kind.admit else built


def offered_class(loaded: Loaded, class_name: str) -> Any:
    """The documented class that a plugin's spec offers.

    Raises:
        MissingExtra: a library that it needs is not installed.
        PluginError: it cannot be imported.
    """
    check_extras(loaded.spec)
    with _step(loaded.entry, "build"):
        return resolve(loaded.spec.offers[class_name])


def check_extras(spec: PluginSpec) -> None:
    """Raise `MissingExtra` for the first library that building needs but that is not installed."""
    for module, requirement in spec.requires.items():
        if not _importable(module):
            raise missing_extra(module, requirement, f"{spec.kind.capitalize()} {spec.name!r}")


def _fetch(entry: Entry, on_step: OnStep) -> Any:
    """Import an installed plugin, after checking the switches and its requirement; the only place that does."""
    blocked = Switches.read().blocked_by(entry)
    if blocked:
        raise BlockedName(f"{entry.kind.capitalize()} {entry.name!r} is blocked by {blocked}.", "Unset it to use it.")
    assert entry.point is not None
    with _step(entry, "requirements", on_step):
        _check_core_requirement(entry)
    with _step(entry, "import", on_step):
        return entry.point.load()


@contextmanager
def _step(entry: Entry, step: str, on_step: OnStep = lambda step: None) -> Iterator[None]:
    """Contain any failure of a plugin in a step, including ``sys.exit``."""
    on_step(step)
    start = time.perf_counter()
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if step in ("settings", "build") and isinstance(error, UsageError):
            raise
        # A spec is often built while its module is imported; the step that failed is still "spec".
        where = "spec" if step == "import" and isinstance(error, ValidationError) else step
        raise failure(entry, where, error) from error
    finally:
        trace(f"{step} {entry} {entry.value} {1e3 * (time.perf_counter() - start):.1f} ms")


def _check_core_requirement(entry: Entry) -> None:
    lines = entry.point.dist.requires if entry.point and entry.point.dist else None
    for line in filter(_on_core, lines or ()):
        from packaging.requirements import Requirement

        requirement, installed = Requirement(line), core_version()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            raise Refused(f"it needs {CORE}{requirement.specifier}, and {CORE} {installed} is installed")


def _on_core(requirement: str) -> bool:
    name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return name is not None and normalize_distribution(name[1]) == CORE


def _scratch_manager(plugin: Any, name: str, hooks: type) -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    manager.register(plugin, name)
    manager.check_pending()
    return manager


def _check_complete(manager: pluggy.PluginManager) -> None:
    missing = [name for name in hook_names(PluginHooks) if not getattr(manager.hook, name).get_hookimpls()]
    if missing:
        raise Refused(f"it implements no {' and no '.join(missing)}")


def _check_observer(manager: pluggy.PluginManager, observer: Any) -> None:
    found = {caller.name: caller.get_hookimpls()[0] for caller in manager.get_hookcallers(observer) or ()}
    for name in hook_names(ObserverHooks):
        if name not in found and callable(getattr(observer, name, None)):
            raise Refused(f"{name} is not marked with neurai_core.hookimpl, so it would never be called")
    if not found:
        raise Refused(f"{observer!r} implements no hook of observers: {', '.join(hook_names(ObserverHooks))}")
    for name, one in found.items():
        if one.wrapper or one.hookwrapper:
            raise Refused(f"{name} is a wrapper; observers are called one by one and cannot wrap each other")
        if inspect.iscoroutinefunction(one.function) or inspect.isgeneratorfunction(one.function):
            raise Refused(f"{name} is a generator or a coroutine, so calling it would do nothing")
        _check_arguments(name, one)


def _check_arguments(name: str, one: pluggy.HookImpl) -> None:
    """Check that a hook has no argument that pluggy would not pass: one with a default, or by keyword only."""
    asked = inspect.signature(one.function).parameters.values()
    lost = [each.name for each in asked if each.default is not each.empty or each.kind is each.KEYWORD_ONLY]
    if lost:
        raise Refused(f"{name} takes {lost[0]} with a default or by keyword only, and hooks are called by position")


def _check_spec(spec: Any, entry: Entry, kind: Kind) -> None:
    expected = resolve(kind.spec)
    if not isinstance(spec, expected):
        raise Refused(f"neurai_spec returned {spec!r:.80}, expected an instance of {expected.__name__}")
    if spec.kind != kind.name:
        raise Refused(f"its spec is of kind {spec.kind!r}, and the entry point of kind {kind.name!r}")
    for name in (entry.name, *entry.aliases):
        if canonical(name) not in map(canonical, _names(spec)):
            raise Refused(f"its spec is named {spec.name!r}, and the entry point {name!r}")


def _names(spec: Any) -> tuple[str, ...]:
    return (spec.name, *spec.aliases) if isinstance(spec, PluginSpec) else ("?",)


def _importable(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False

"""The ready-made plugin object: a spec and the location of its implementation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import reduce
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from neurai_core.errors import UsageError
from neurai_core.hookspecs import hookimpl
from neurai_core.specs import Config, PluginSpec


class Plugin:
    """Implements both hooks from a spec and a target, so a plugin is one line in addition to its settings class.

    The target is imported when the first object is built, and called as ``target(config, **context)``.

    Args:
        spec: the description, or a callable without arguments that returns it.
        target: ``"module:attribute"`` or the callable itself.

    >>> from neurai_core.specs import AlgorithmSpec
    >>> plugin = Plugin(AlgorithmSpec(name="sign_bp", summary="Signs of the gradient"), "my_rule:build")
    >>> plugin.neurai_spec().name
    'sign_bp'
    """

    def __init__(self, spec: PluginSpec | Callable[[], PluginSpec], target: str | Callable[..., Any]) -> None:
        self._spec = spec
        self._target = target

    @hookimpl
    def neurai_spec(self) -> PluginSpec:
        """The spec."""
        return self._spec if isinstance(self._spec, PluginSpec) else self._spec()

    @hookimpl
    def neurai_build(self, config: Config, context: Mapping[str, Any]) -> Any:
        """Call the target with these settings."""
        return resolve(self._target)(config, **context)

    def __repr__(self) -> str:
        target = self._target if isinstance(self._target, str) else self._target.__qualname__
        return f"Plugin({getattr(self._spec, 'name', '...')!r}, {target!r})"


def resolve(target: str | Callable[..., Any]) -> Any:
    """Import the object that ``"module:attribute"`` names; anything but a string is returned unchanged.

    >>> resolve("math:tau") > 6
    True
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return reduce(getattr, filter(None, attribute.split(".")), importlib.import_module(module))


def source_of(target: str) -> str:
    """The source of the module in ``"module:attribute"``, without running it or any package around it.

    Raises:
        UsageError: there is no such module, or it has no source.

    >>> "def source_of" in source_of("neurai_core.plugin:source_of")
    True
    """
    module = target.partition(":")[0]
    top, *inner = module.split(".")
    found = find_spec(top)
    for name in inner:
        if found is not None:
            found = PathFinder.find_spec(f"{found.name}.{name}", found.submodule_search_locations or [])
    if found is None:
        raise UsageError(f"No module is named {module!r}.", f"A spec refers to it: {target!r}.")
    source = getattr(found.loader, "get_source", lambda name: None)(module)
    if source is None:
        raise UsageError(f"The module {module!r} has no source to show.")
    text: str = source
    return text

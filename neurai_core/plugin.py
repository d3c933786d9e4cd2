"""The ready-made plugin object: a spec and where its implementation is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from neurai_core.hookspecs import hookimpl
from neurai_core.specs import Config, PluginSpec


class Plugin:
    """Implements both hooks from a spec and a target, so a plugin is one line beside its settings class.

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
        """The target's result for these settings."""
        return resolve(self._target)(config, **context)

    def __repr__(self) -> str:
        target = self._target if isinstance(self._target, str) else self._target.__qualname__
        return f"Plugin({getattr(self._spec, 'name', '...')!r}, {target!r})"


def resolve(target: str | Callable[..., Any]) -> Any:
    """What ``"module:attribute"`` names; anything but a string is returned as it is.

    >>> resolve("math:tau") > 6
    True
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return reduce(getattr, filter(None, attribute.split(".")), importlib.import_module(module))

"""The documented classes that plugins offer, as attributes of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurai_core.errors import UnknownName
from neurai_core.registry import REGISTRY


def attributes_of(module: str, kind: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that finds the classes which plugins of one kind offer.

    Args:
        module: the module's name, for the message.
        kind: the kind of plugin, such as ``algorithm``.

    Example:
        >>> attributes_of("somewhere", "algorithm")("BP").__name__
        'BP'
    """

    def getattr_of_module(name: str) -> Any:
        if name.startswith("_") or name.islower():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        try:
            return REGISTRY.offered(name, kind)
        except UnknownName as error:
            raise AttributeError(f"module {module!r} has no attribute {name!r}: {error}") from error

    return getattr_of_module

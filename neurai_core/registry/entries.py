"""Entries: plugins as offered by distributions, before anything is imported."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from neurai_core.naming import canonical, normalize_distribution, split_qualified

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

CORE = "neurai"
IN_PROCESS = "in-process"


@dataclass(frozen=True, eq=False)
class Entry:
    """A plugin that a distribution offers under one or several names, or that was registered in this process.

    Attributes:
        kind: name of its kind.
        name: lookup name as spelled by the distribution.
        value: ``"module:attribute"``; empty for a plugin registered in this process.
        point: the entry point; None for a plugin registered in this process.
        aliases: further lookup names.
    """

    kind: str
    name: str
    value: str = ""
    point: EntryPoint | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """The name in canonical form."""
        return canonical(self.name)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The name and the aliases in canonical form."""
        return tuple(dict.fromkeys(map(canonical, (self.name, *self.aliases))))

    @cached_property
    def distribution(self) -> str:
        """Name of the distribution that offers it."""
        return said(self.point.dist, "name") if self.point and self.point.dist else IN_PROCESS

    @cached_property
    def version(self) -> str:
        """Version of that distribution; empty for a plugin registered in this process."""
        return said(self.point.dist, "version") if self.point and self.point.dist else ""

    @cached_property
    def editable(self) -> str:
        """The folder of that distribution if it is installed as editable, so that who uses it also writes it."""
        found = self.point.dist.read_text("direct_url.json") if self.point and self.point.dist else None
        try:
            origin = json.loads(found or "{}")
            return unquote(urlsplit(origin["url"]).path) if origin["dir_info"]["editable"] else ""
        except (ValueError, KeyError, TypeError):
            return ""

    @property
    def builtin(self) -> bool:
        """Whether it belongs to the core's own distribution."""
        return self.comes_from(CORE)

    def comes_from(self, distribution: str) -> bool:
        """Whether the distribution of that name offers it."""
        return normalize_distribution(self.distribution) == normalize_distribution(distribution)

    def matches(self, item: str) -> bool:
        """Whether an item of a switch refers to it: a name, a distribution, or ``name@distribution``."""
        name, distribution = split_qualified(item)
        if distribution:
            return canonical(name) in self.keys and self.comes_from(distribution)
        return canonical(name) in self.keys or self.comes_from(name)

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.name}@{self.distribution}{version}"


def core_version() -> str:
    """The installed version of the core."""
    import importlib_metadata

    return importlib_metadata.version(CORE)


def said(distribution: Any, field: str) -> str:
    """The name or version in a distribution's metadata; a question mark if there is none."""
    try:
        return getattr(distribution, field) or "?"
    except (FileNotFoundError, KeyError):
        return "?"

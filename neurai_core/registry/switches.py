"""Environment variables that control plugins, applied before any of them is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from neurai_core.errors import UsageError
from neurai_core.naming import canonical
from neurai_core.registry.entries import Entry


@dataclass(frozen=True)
class Switches:
    """Settings of the environment for plugins, read again for every decision.

    Attributes:
        only: items of ``NEURAI_ONLY``, or None when it is not set.
        block: items of ``NEURAI_BLOCK``.
        prefer: canonical name -> distribution, from ``NEURAI_PREFER``.
        autoload: False when ``NEURAI_DISABLE_PLUGIN_AUTOLOAD`` is set.
    """

    only: tuple[str, ...] | None
    block: tuple[str, ...]
    prefer: Mapping[str, str]
    autoload: bool

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Switches:
        """The switches of an environment.

        Raises:
            UsageError: ``NEURAI_PREFER`` is not a list of ``name=distribution``.
        """
        return cls(
            only=_items(environ["NEURAI_ONLY"]) if "NEURAI_ONLY" in environ else None,
            block=_items(environ.get("NEURAI_BLOCK", "")),
            prefer=dict(map(_preference, _items(environ.get("NEURAI_PREFER", "")))),
            autoload=environ.get("NEURAI_DISABLE_PLUGIN_AUTOLOAD", "") in ("", "0"),
        )

    def blocked_by(self, entry: Entry) -> str:
        """The switch that blocks an installed plugin, as it is set; empty if none does.

        Plugins of this process are never blocked.
        """
        if entry.point is None:
            return ""
        blocking = [item for item in self.block if entry.matches(item)]
        if blocking:
            return f"NEURAI_BLOCK={blocking[0]}"
        if (self.autoload and self.only is None) or entry.builtin:
            return ""
        if not self.autoload:
            return "NEURAI_DISABLE_PLUGIN_AUTOLOAD=1"
        only = self.only or ()
        return "" if any(map(entry.matches, only)) else f"NEURAI_ONLY={','.join(only)}"


def trace(text: str) -> None:
    """Report on stderr what is loaded, if ``NEURAI_TRACE`` is set."""
    if os.environ.get("NEURAI_TRACE", "") not in ("", "0"):
        print(f"neurai: {text}", file=sys.stderr)


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _preference(item: str) -> tuple[str, str]:
    name, equals, distribution = item.partition("=")
    if not (name.strip() and equals and distribution.strip()):
        raise UsageError(
            f"NEURAI_PREFER holds {item!r}, expected name=distribution.",
            "For example NEURAI_PREFER=my-rule=some-dist.",
        )
    return canonical(name), distribution.strip()

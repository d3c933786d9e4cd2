"""Problems in the metadata of distributions that offer plugins, which determine what is found."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

Damage = tuple[str, str]  # distribution, problem


def damages() -> Iterator[Damage]:
    """Every distribution whose metadata are damaged or out of date."""
    import importlib_metadata

    yield from _without_plugins()
    offering = [one for one in importlib_metadata.distributions() if _offers(one) or _declared(one)]
    yield from _nameless(offering)
    yield from _twice(offering)
    yield from _older_than_their_source(offering)


def _without_plugins() -> Iterator[Damage]:
    """Check the core, which has plugins of every kind; if some are missing, its own metadata are at fault."""
    from neurai_core.registry.entries import CORE
    from neurai_core.registry.kinds import KINDS
    from neurai_core.registry.scan import Index

    index = Index(KINDS)
    if any(one.distribution == CORE for one in index.unreadable):
        return  # the list of plugins reports it
    missing = [kind.plural for kind in KINDS if not any(entry.builtin for entry in index.entries(kind.name))]
    if missing:
        yield CORE, f"They list no {' and no '.join(missing)}. {_again(CORE)}"


def _nameless(offering: list[Any]) -> Iterator[Damage]:
    for one in offering:
        if not _name(one):
            yield _folder(one), f"They have no METADATA with a name. {_again('the distribution')}"


def _twice(offering: list[Any]) -> Iterator[Damage]:
    """Find metadata of two versions in one folder, as left by an interrupted installation."""
    from neurai_core.naming import normalize_distribution

    seen: dict[tuple[str, str], Any] = {}
    for one in filter(_name, offering):
        first = seen.setdefault((str(one.locate_file("")), normalize_distribution(_name(one))), one)
        if _folder(first) != _folder(one):
            yield (
                _name(one),
                f"They are there twice, {_folder(first)} and {_folder(one)}. Remove one, or {_again('it')}",
            )


def _older_than_their_source(offering: list[Any]) -> Iterator[Damage]:
    for one in filter(_name, offering):
        declared, known = _declared(one), _offers(one)
        for said, names in (("lack", declared - known), ("still list", known - declared if declared else set())):
            if names:
                words = ", ".join(sorted(f"{name} ({group})" for group, name in names))
                yield _name(one), f"They {said} {words}, unlike its pyproject.toml. {_again(_name(one))}"


def _offers(distribution: Any) -> set[tuple[str, str]]:
    """Group and name of the plugins that the metadata list."""
    try:
        points = distribution.entry_points
    except Exception:  # the list of plugins reports it
        return set()
    return {(point.group, point.name) for point in points if point.group in _groups()}


def _declared(distribution: Any) -> set[tuple[str, str]]:
    """Group and name of the plugins that the source of an editable installation declares."""
    try:
        source = json.loads(distribution.read_text("direct_url.json") or "{}")
        if not source.get("dir_info", {}).get("editable"):
            return set()
        path = Path(unquote(urlparse(source["url"]).path), "pyproject.toml")
        declared = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["entry-points"]
        return {(group, name) for group in _groups() & set(declared) for name in declared[group]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _groups() -> set[str]:
    from neurai_core.registry.kinds import KINDS

    return {kind.group for kind in KINDS}


def _name(distribution: Any) -> str:
    try:
        return distribution.name or ""
    except Exception:
        return ""


def _folder(distribution: Any) -> str:
    return Path(getattr(distribution, "_path", "?")).name


def _again(what: str) -> str:
    return f"install {what} again." if what == "it" else f"Install {what} again."

"""The origin of a built object: which plugin made it, with which settings and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neurai_core.explain import place_of, recorded_settings
from neurai_core.specs import Config, Origin

if TYPE_CHECKING:
    from neurai_core.registry.loading import Loaded


def origin_of(loaded: Loaded, config: Config, context: Mapping[str, Any]) -> Origin:
    """The origin of what a plugin builds from these settings and arguments; callables are recorded by name."""
    return Origin(
        kind=loaded.spec.kind,
        name=loaded.spec.name,
        distribution=loaded.entry.distribution,
        version=loaded.entry.version,
        settings=recorded_settings(config),
        context={key: _recorded(value) for key, value in context.items()},
    )


def with_origin(built: Any, origin: Origin) -> Any:
    """A built object with its origin, if it has a field or a method for it."""
    if "origin" in getattr(built, "_fields", ()):
        return built._replace(origin=origin)
    if hasattr(built, "with_origin"):
        return built.with_origin(origin)
    return built


def _recorded(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else place_of(value)

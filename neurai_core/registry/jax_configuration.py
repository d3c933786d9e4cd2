"""Changes that a plugin makes to JAX's global configuration. Does not import JAX itself."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def configuration_changes() -> Iterator[list[str]]:
    """Fill a list with the changes inside a ``with`` block, as ``name: old -> new``.

    >>> with configuration_changes() as changes:
    ...     pass
    >>> changes
    []
    """
    changes: list[str] = []
    variables, finder = _variables(), _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield changes
    finally:
        sys.meta_path.remove(finder)
        changes += _differences(variables, _variables(), {*variables, *_variables()})
        changes += _differences(finder.values, _values(sys.modules.get("jax")), finder.values)


class _Finder:
    """A snapshot of JAX's configuration, taken now or as soon as JAX is imported."""

    def __init__(self) -> None:
        self.values = _values(sys.modules.get("jax"))

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "jax" or self.values:
            return None
        self.values = {"": None}  # the search below calls this again
        found = importlib.util.find_spec(name)
        self.values = {}
        if found is not None and found.loader is not None:
            run = found.loader.exec_module

            def run_and_keep(module: ModuleType) -> None:
                run(module)
                self.values = _values(module)

            found.loader.exec_module = run_and_keep  # type: ignore[method-assign]
        return found


def _variables() -> dict[str, Any]:
    return {name: value for name, value in os.environ.items() if name.startswith("JAX_") or name == "XLA_FLAGS"}


def _values(jax: Any) -> dict[str, Any]:
    return dict(getattr(getattr(jax, "config", None), "values", {}))


def _differences(before: dict[str, Any], after: dict[str, Any], names: Iterable[str]) -> list[str]:
    changed = (name for name in sorted(names) if before.get(name) != after.get(name))
    return [f"{name}: {before.get(name)!r} -> {after.get(name)!r}" for name in changed]

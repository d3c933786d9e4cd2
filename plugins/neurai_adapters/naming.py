"""Names for the outputs of the modules inside a model, each by its path; shared by all adapters.

Inside `naming`, an adapter names the outputs of its modules. A module that is called again in the same forward pass is
a new activity: its name gets a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, cast

import jax
import jax.numpy as jnp

from neurai_core.network import activity

_CALLS: ContextVar[Counter[str] | None] = ContextVar("calls", default=None)


@contextmanager
def naming() -> Iterator[None]:
    """A context in which adapters name the outputs of the modules inside a model.

    >>> with naming():
    ...     is_naming()
    True
    """
    token = _CALLS.set(Counter())
    try:
        yield
    finally:
        _CALLS.reset(token)


def is_naming() -> bool:
    """Whether outputs are to be named."""
    return _CALLS.get() is not None


def named_output(output: Any, path: str) -> Any:
    """A module's output with its float arrays named: by path, or by path and number for a tuple."""
    calls = _CALLS.get()
    if calls is None:
        return output
    calls[path] += 1
    name = path if calls[path] == 1 else f"{path}:{calls[path]}"
    if isinstance(output, tuple):
        return type(output)(_named(one, f"{name}.{i}") for i, one in enumerate(output))
    return _named(output, name)


def _named(output: Any, name: str) -> Any:
    return activity(output, name) if isinstance(output, jax.Array) and jnp.issubdtype(output, jnp.floating) else output


def name_outputs(modules: Iterable[tuple[str, Any]]) -> None:
    """Make modules name their outputs.

    Args:
        modules: paths and modules; the modules are used in this forward pass only.
    """
    for path, module in modules:
        object.__setattr__(module, "__class__", _naming_class(cast(Hashable, type(module)), path))


@lru_cache(maxsize=4096)
def _naming_class(cls: Any, path: str) -> Any:
    """A variant of a class whose objects name their outputs."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return named_output(cls.__call__(self, *args, **kwargs), path)

    known = {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), known)

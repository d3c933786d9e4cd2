"""Names for the outputs of the modules inside a model, each by its path: what every bridge shares.

Inside `naming` a bridge names what its modules return. A module that is called again in one forward pass is another
activity: its name gets a number.
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
    """While it is open, the bridges name the outputs of the modules inside a model.

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
    """What a module returned, its arrays of floats named: by the path, or by path and number where it is a tuple."""
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
    """Let modules name what they return.

    Args:
        modules: path and module, each an object of this forward pass alone.
    """
    for path, module in modules:
        object.__setattr__(module, "__class__", _naming_class(cast(Hashable, type(module)), path))


@lru_cache(maxsize=4096)
def _naming_class(cls: Any, path: str) -> Any:
    """A class like another one, whose objects name what they return."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return named_output(cls.__call__(self, *args, **kwargs), path)

    known = {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), known)

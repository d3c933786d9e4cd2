"""Files of JSON: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurai_core.errors import OutputError
from neurai_core.training.writing import writing_to


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # others may write the same file
    with writing_to(path):
        path.parent.mkdir(exist_ok=True)
        beside.write_text(json.dumps(plain(value), allow_nan=False), encoding="utf-8")
        os.replace(beside, path)


def read_json(path: Path, *needed: str, hint: str) -> Any:
    """Read a file of JSON.

    Args:
        path: the file.
        *needed: keys that it has to have.
        hint: what to do if it is damaged.

    Raises:
        OutputError: it cannot be read, is no JSON, or lacks a key.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lacking = [key for key in needed if key not in found]
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{path} cannot be read: {error}.", hint) from error
    if lacking:
        raise OutputError(f"{path} is damaged: it has no {lacking[0]!r}.", hint)
    return found


def plain(value: Any) -> Any:
    """A value as JSON holds it: numbers that are not finite are null, arrays are lists.

    >>> plain({"a": np.ones(2), "b": (math.nan, 1)})
    {'a': [1.0, 1.0], 'b': [None, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)

"""Code that a configuration names: run only if its file is the one that was recorded, or if the caller trusts it.

Nothing is imported to find out.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from neurai_core.errors import UsageError
from neurai_core.training.chosen import PYTHON, Chosen

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")  # module:attribute


def check_trusted(chosen: Chosen, path: Path, *, trust: bool = False) -> None:
    """Check that the code which a configuration names is the code that it was written with.

    Args:
        chosen: the settings; those from other sources than the file are the caller's own.
        path: the file that they were read from.
        trust: whether to run whatever it names.

    Raises:
        UsageError: a file of code has changed, or was never recorded.
    """
    if trust:
        return
    known = dict(chosen.record.get("code", {}))
    if "model_sha256" in chosen.record:
        known["model"] = chosen.record["model_sha256"]
    for name, (text, file) in code_of(chosen).items():
        if chosen.sources.get(name) == str(path) and known.get(name) != sha256_of(file):
            why = "is not the one that it was recorded with" if name in known else "was never recorded"
            raise UsageError(
                f"{path} names code to run, {name} = {text!r}, whose file {file} {why}.",
                "Read that file; if you trust it, add --trust (trust=True).",
            )


def code_of(chosen: Chosen) -> dict[str, tuple[str, Path]]:
    """The settings that name code, by their name, with their text and the file of the code."""
    return {name: (text, file) for name, text in _texts(chosen) if (file := _file_of(text)) is not None}


def sha256_of(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _texts(chosen: Chosen) -> Iterator[tuple[str, str]]:
    """Settings whose text may name code."""
    yield from _strings("model", chosen.settings.model)
    for part, given in chosen.parts.items():
        for name, value in given.items():
            yield from _strings(f"{part}.{name}", value)


def _strings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The strings in a value, which may be nested."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _strings(f"{name}.{number}", inner)


def _file_of(text: str) -> Path | None:
    """The file of the code that a text names; None if it names none."""
    place, _, attribute = text.rpartition(":")
    if text.startswith(PYTHON):
        return None
    if place.endswith(".py") and attribute:
        file = Path(place).expanduser()
        return file if file.is_file() else None
    return _module_file(place) if _REFERENCE.fullmatch(text) else None


def _module_file(module: str) -> Path | None:
    """The file of a module, found as an import would find it, without importing any package around it."""
    folders: list[str] | None = [str(Path.cwd()), *sys.path]
    for name in module.split("."):
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return None
        folders = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None

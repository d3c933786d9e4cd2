"""Folders of runs: made, found, and read."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neurai_core.errors import OutputError
from neurai_core.training import checkpoint
from neurai_core.training.lock import LOCK
from neurai_core.training.record import CONFIG
from neurai_core.training.settings import Chosen, choose
from neurai_core.training.trust import check_trusted
from neurai_core.training.writing import writing_to

CHECKPOINTS = "checkpoints"


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return os.path.isfile(folder / CONFIG)  # unlike the methods of a path, accepts names that are too long


def timed_folder(parent: str, *names: str) -> Path:
    """Make a new folder ``parent/TIME-NAME-...``; two that are asked for in the same second get different ones."""
    name = "-".join((time.strftime("%Y%m%d-%H%M%S"), *names))
    for number in itertools.count(1):
        folder = Path(parent, name if number == 1 else f"{name}-{number}")
        with writing_to(folder):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                if not os.path.lexists(folder):  # a parent is in the way, such as a link that leads nowhere
                    raise
    return folder


def new_folder(folder: Path) -> Path:
    """Make the folder, or check that it is empty, and that files can be written into it."""
    if holds_run(folder):
        raise OutputError(
            f"{folder} already holds a run.",
            f"Choose another --out, or continue it with: neurai train --resume {folder}",
        )
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not all(path.name.startswith((LOCK, f".{CONFIG}.")) for path in folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and it holds no run.", "Choose another --out.")
        with tempfile.TemporaryFile(dir=folder):
            return folder


def settings_of(
    folder: Path,
    say: Callable[[str], None] = lambda sentence: None,
    *,
    trust: bool = False,
    objects: tuple[str, ...] = (),
    flags: Mapping[str, Any] = MappingProxyType({}),
) -> Chosen:
    """The settings of the run in a folder.

    Args:
        folder: the folder of a run.
        say: called with a sentence if its configuration was damaged, and was taken from a checkpoint.
        trust: whether to run code that it names even if the file of the code has changed.
        objects: names of settings that may be objects of Python, because the caller has them.
        flags: settings that replace those of the folder.

    Raises:
        OutputError: the folder holds no run.
        UsageError: its configuration cannot be read, or names code whose file has changed.
    """
    if not holds_run(folder):
        raise OutputError(f"{folder} holds no run: it has no {CONFIG}.", "Give the folder of a run, runs/<name>.")
    _mend_config(folder, say)
    chosen = choose(flags, file=folder / CONFIG, environ={}, objects=objects)
    check_trusted(chosen, folder / CONFIG, trust=trust)
    return chosen


def _mend_config(folder: Path, say: Callable[[str], None]) -> None:
    """Replace a configuration that is not TOML by its copy in the newest checkpoint, if there is one."""
    path = folder / CONFIG
    try:
        tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        copy = checkpoint.facts_of(folder / CHECKPOINTS).get("config")
        if copy is None:
            return  # reading it says what is wrong
        os.replace(path, path.with_name(f"{CONFIG}.damaged"))
        path.write_text(copy, encoding="utf-8")
        say(f"{path} was damaged ({error}); its copy in the newest checkpoint is used.")


def remove_if_empty(folder: Path) -> None:
    """Remove a folder in which nothing was written."""
    if not any(folder.iterdir()):
        folder.rmdir()

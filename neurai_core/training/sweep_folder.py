"""Folders of sweeps: made, checked, and filled.

```
sweeps/<time>-<rule>-<data>/
    sweep.json          the settings
    programs/*.json     of a grid: what each program gave
    study.journal       of a search: every configuration that was drawn, with what it gave
    results.json        all of it
    best.toml           the best configuration, for `neurai train --config`
    sweep.png           the picture
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from neurai_core.data import Dataset
from neurai_core.errors import OutputError
from neurai_core.training.comparison_folder import plain, read_json, write_json
from neurai_core.training.deciding import numerics
from neurai_core.training.folders import timed_folder, writing
from neurai_core.training.lock import LOCK
from neurai_core.training.record import write_config
from neurai_core.training.searched import Search
from neurai_core.training.settings import Chosen
from neurai_core.training.sweep_programs import task_of
from neurai_core.training.swept import Plan

PLAN, PROGRAMS, JOURNAL, RESULTS, BEST, PICTURE = (
    "sweep.json",
    "programs",
    "study.journal",
    "results.json",
    "best.toml",
    "sweep.png",
)
DAMAGED = "Remove the file to run its program again; without sweep.json, begin anew in another folder."


def record(planned: Plan | Search) -> dict[str, Any]:
    """Everything that a folder or a study must agree with."""
    return cast(dict[str, Any], plain({**planned.record(), "numerics": numerics()}))


def refuse_other(folder: Path, planned: Plan | Search) -> None:
    """Check that a folder is new, or empty, or holds a part of the same sweep.

    Raises:
        OutputError: it holds something else.
    """
    if os.path.isfile(folder / PLAN):  # unlike the methods of a path, accepts names that are too long
        before = read_json(folder / PLAN, "axes", "seeds", "settings", "numerics", hint=DAMAGED)
        hint = "Choose another --out, or give the settings with which it was begun."
        refuse_difference(f"{folder} holds a sweep", before, record(planned), hint)
        return
    with writing(folder):
        if folder.is_file() or (
            folder.is_dir() and not all(path.name.startswith((LOCK, f".{PLAN}")) for path in folder.iterdir())
        ):
            raise OutputError(f"{folder} is not empty, and it holds no sweep.", "Choose another --out.")


def refuse_difference(what: str, before: Mapping[str, Any], now: Mapping[str, Any], hint: str) -> None:
    """Raise if a sweep was begun with other settings; names the first that differs."""
    for part in ("axes", "seeds"):
        first, second = (", ".join(map(str, one[part])) for one in (before, now))
        if first != second:
            raise OutputError(f"{what} with the {part} {first}, and asked for are {second}.", hint)
    for was, asked in ((before[part], now[part]) for part in ("axes", "settings", "numerics")):
        for name in {**was, **asked}:
            if was.get(name) != asked.get(name):
                raise OutputError(
                    f"{what} in which {name} is {was.get(name)}, and asked for is {asked.get(name)}.", hint
                )


def made(folder: Path | None, planned: Plan | Search) -> Path:
    """Make the folder, if there is none yet, with the settings; None for one named by the time."""
    settings = (planned.ends if isinstance(planned, Search) else planned).chosen[0].settings
    folder = folder or timed_folder("sweeps", settings.rule, settings.data)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).exists():
        write_json(folder / PLAN, record(planned))
    return folder


def write(folder: Path, results: Mapping[str, Any], best: Chosen | None, seed: int, data: Dataset) -> None:
    """Write the results, the best configuration and the picture.

    Args:
        folder: the folder.
        results: what ``results.json`` holds.
        best: the best configuration; None if there is none.
        seed: its seed.
        data: its data.
    """
    write_json(folder / RESULTS, results)
    if best is not None:
        write_config(folder, best, task_of(best, seed, data), BEST)

    from neurai_core.report.sweep_picture import picture  # matplotlib is slow to import

    picture(results, folder / PICTURE)

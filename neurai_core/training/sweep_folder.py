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

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neurai_core.data import Dataset
from neurai_core.training.agreement import Record, Work
from neurai_core.training.json_files import write_json
from neurai_core.training.record import write_config
from neurai_core.training.searched import Search
from neurai_core.training.settings import Chosen
from neurai_core.training.sweep_programs import task_of
from neurai_core.training.swept import Configurations

PROGRAMS, JOURNAL, RESULTS, BEST, PICTURE = "programs", "study.journal", "results.json", "best.toml", "sweep.png"


def _settings(record: Record) -> Iterator[tuple[str, Record]]:
    for part in ("axes", "settings", "numerics"):
        yield "", record[part]


SWEEP = Work(
    "sweep",
    "sweep.json",
    listed=("axes", "seeds"),
    settings=_settings,
    damaged="Remove the file to run its program again; without sweep.json, start over in another folder.",
)


def record(planned: Configurations | Search) -> dict[str, Any]:
    """Everything that a folder or a study must agree with."""
    return SWEEP.record(planned.record())


def refuse_other(folder: Path, planned: Configurations | Search) -> None:
    """Check that a folder is new, or empty, or holds a part of the same sweep.

    Raises:
        OutputError: it holds something else.
    """
    SWEEP.refuse_other(folder, record(planned))


def made(folder: Path | None, planned: Configurations | Search) -> Path:
    """Make the folder, if there is none yet, with the settings; None for one named by the time."""
    settings = (planned.ends if isinstance(planned, Search) else planned).chosen[0].settings
    return SWEEP.made(folder, record(planned), settings.rule, settings.data)


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

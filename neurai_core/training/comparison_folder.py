"""Folders of comparisons: made, checked, and read.

```
comparisons/<time>-<data>/
    comparison.json     the settings
    rules/<rule>.json   what training a rule gave; written when all of its seeds are done
    results.json        all of it, with intervals and tests
    report.html         the same, to read, with its pictures
    *.png               the pictures
```
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurai_core.naming import canonical
from neurai_core.training.agreement import Record, Work
from neurai_core.training.compared import Plan

RESULTS, RULES, REPORT = "results.json", "rules", "report.html"


def _settings(record: Record) -> Iterator[tuple[str, Record]]:
    for rule, settings in record["rules"].items():
        yield f" of {rule}", settings
    yield "", record["numerics"]


COMPARISON = Work(
    "comparison",
    "comparison.json",
    listed=("rules", "seeds"),
    settings=_settings,
    damaged="Remove the file to train that rule again; without comparison.json, start over in another folder.",
)


def refuse_other(folder: Path, planned: Plan) -> None:
    """Check that a folder is new, or empty, or holds a part of the same comparison.

    Raises:
        OutputError: it holds something else.
    """
    COMPARISON.refuse_other(folder, COMPARISON.record(planned.record()))


def made(folder: Path | None, planned: Plan) -> Path:
    """Make the folder of a comparison, if there is none yet, with its settings; None for one named by the time."""
    data = next(iter(planned.rules.values())).settings.data
    return COMPARISON.made(folder, COMPARISON.record(planned.record()), data)


def file_of(folder: Path, rule: str) -> Path:
    """The file with the results of a rule."""
    return folder / RULES / f"{canonical(rule)}.json"

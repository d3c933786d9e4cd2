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

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from neurai_core.errors import DataError, OutputError
from neurai_core.naming import canonical
from neurai_core.training.compared import Plan
from neurai_core.training.deciding import numerics
from neurai_core.training.folders import timed_folder, writing
from neurai_core.training.lock import LOCK
from neurai_core.training.record import versions
from neurai_core.training.task import Task

PLAN, RESULTS, RULES, REPORT = "comparison.json", "results.json", "rules", "report.html"
_DAMAGED = "Remove the file to train that rule again; without comparison.json, begin anew in another folder."


def refuse_other(folder: Path, planned: Plan) -> None:
    """Check that a folder is new, or empty, or holds a part of the same comparison.

    Raises:
        OutputError: it holds something else.
    """
    if os.path.isfile(folder / PLAN):  # unlike the methods of a path, accepts names that are too long
        _refuse_difference(folder, read_json(folder / PLAN, "rules", "seeds", "numerics"), _record(planned))
        return
    with writing(folder):
        if folder.is_file() or (folder.is_dir() and any(path.name != LOCK for path in folder.iterdir())):
            raise OutputError(f"{folder} is not empty, and it holds no comparison.", "Choose another --out.")


def made(folder: Path | None, planned: Plan) -> Path:
    """Make the folder of a comparison, if there is none yet, with its settings; None for one named by the time."""
    folder = folder or timed_folder("comparisons", next(iter(planned.rules.values())).settings.data)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).exists():
        write_json(folder / PLAN, _record(planned))
    return folder


def file_of(folder: Path, rule: str) -> Path:
    """The file with the results of a rule."""
    return folder / RULES / f"{canonical(rule)}.json"


def _record(planned: Plan) -> dict[str, Any]:
    """Everything that a folder must agree with."""
    return cast(dict[str, Any], plain({**planned.record(), "numerics": numerics()}))


def _refuse_difference(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if the folder is of a comparison with other settings; names the first that differs."""
    hint = "Choose another --out, or give the settings with which it was begun."
    for what in ("rules", "seeds"):
        first, second = list(before[what]), list(now[what])
        if first != second:
            said, asked = (", ".join(map(str, one)) for one in (first, second))
            raise OutputError(f"{folder} holds a comparison with the {what} {said}, and asked for are {asked}.", hint)
    parts = [(f" of {rule}", before["rules"][rule], settings) for rule, settings in now["rules"].items()]
    for whose, was, asked in (*parts, ("", before["numerics"], now["numerics"])):
        for name in {**was, **asked}:
            if was.get(name) != asked.get(name):
                raise OutputError(
                    f"{folder} holds a comparison in which {name}{whose} is {was.get(name)}, and asked for is "
                    f"{asked.get(name)}.",
                    hint,
                )


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # others may write the same file
    with writing(path.parent):
        path.parent.mkdir(exist_ok=True)
        beside.write_text(json.dumps(plain(value), allow_nan=False), encoding="utf-8")
        os.replace(beside, path)


def read_json(path: Path, *needed: str, hint: str = _DAMAGED) -> Any:
    """Read a file of a comparison, or of a sweep.

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


def read_result(
    path: Path,
    *needed: str,
    task: Task,
    whole: str,
    done: str,
    note: Callable[[str], None],
    hint: str = _DAMAGED,
) -> dict[str, Any]:
    """Read results that a folder holds, which must be of the same data and model.

    Args:
        path: the file, in a folder of the folder of the whole.
        *needed: keys that it has to have, besides those that are compared.
        task: the task that would be trained now.
        whole: what the results are a part of, such as ``comparison``.
        done: when they were got, in words, such as ``it was trained``.
        note: called with a sentence if they were got with other versions.
        hint: what to do if the file is damaged.

    Raises:
        OutputError: the file cannot be read.
        DataError: the data or the file of the model have changed.
    """
    result = cast(dict[str, Any], read_json(path, *needed, "data_sha256", "model_sha256", "versions", hint=hint))
    for what, now in (("data", task.data_sha256), ("model", task.source_sha256)):
        if result[f"{what}_sha256"] != now:
            raise DataError(
                f"The {what} of this {whole} changed since {done}.",
                f"Bring the original back, or choose another --out than {path.parent.parent}.",
            )
    before, installed = result["versions"], versions(task)
    changed = [
        f"{name} was {one} and is {installed.get(name)}" for name, one in before.items() if installed.get(name) != one
    ]
    if changed:
        note(f"{done} in another environment: {', '.join(changed)}.")
    return result


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

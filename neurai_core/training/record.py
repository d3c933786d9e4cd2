"""Files of a run besides its parameters: ``config.toml``, which repeats it, and ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import importlib_metadata
import tomli_w

from neurai_core.errors import DataError, ModelError
from neurai_core.training.deciding import as_trained, deciding, differences, numerics
from neurai_core.training.networks import absolute
from neurai_core.training.settings import Chosen
from neurai_core.training.stream import example_of
from neurai_core.training.task import Task
from neurai_core.training.trust import code_of, sha256_of
from neurai_core.training.writing import writing_to

CONFIG, METRICS = "config.toml", "metrics.jsonl"
_LIBRARIES = ("neurai", "jax", "jaxlib", "optax", "numpy")
_HEAD = "# Written by neurai train. `neurai train --config THIS_FILE` repeats the run to the same numbers.\n\n"


def write_config(folder: Path, chosen: Chosen, task: Task, name: str = CONFIG) -> None:
    """Write everything that determines the run: settings, versions, hashes."""
    given = {name: value for name, value in as_trained(chosen, task).items() if value is not None and value != ()}
    settings = given | {"model": absolute(chosen.settings.model)}
    parts = _parts(chosen, task)
    content = settings | ({"settings": parts} if parts else {}) | {"record": record(chosen, task)}
    beside = folder / f".{name}.{os.getpid()}"  # a process that is killed now leaves no half of a configuration
    with writing_to(folder / name):
        beside.write_text(_HEAD + tomli_w.dumps(content), encoding="utf-8")
        os.replace(beside, folder / name)


def record(chosen: Chosen, task: Task) -> dict[str, Any]:
    """What determines a run besides its settings: data, code, versions, the machine and how it computes."""
    hashes = {"data_sha256": task.data_sha256, "model_sha256": task.source_sha256}
    code = {name: sha256_of(file) for name, (_, file) in code_of(chosen).items() if name != "model"}
    rest = {"versions": versions(task), "numerics": numerics(), "data": shapes(task), "code": code}
    return {name: value for name, value in (hashes | rest).items() if value}


def shapes(task: Task) -> dict[str, Any]:
    """Shapes and dtypes of one example and its target, and the number of classes."""
    x, y = example_of(task.data, 1)
    known = {"x": list(x.shape[1:]), "x_dtype": x.dtype.str, "y": list(y.shape[1:]), "y_dtype": y.dtype.str}
    return known | ({} if task.data.n_classes is None else {"classes": task.data.n_classes})


def decides(chosen: Chosen, task: Task) -> dict[str, Any]:
    """Everything that decides the bits of a run, for its checkpoints."""
    computing = {name: one for name, one in versions(task).items() if name not in ("python", "machine")}
    return deciding(chosen, task, _parts(chosen, task), computing)


def versions(task: Task) -> dict[str, str]:
    """Versions of Python, of the numerical libraries, and of the distributions of rule, data and surrogate."""
    import jax

    found = {"python": platform.python_version()} | {name: importlib_metadata.version(name) for name in _LIBRARIES}
    for origin in (task.rule.origin, task.data.origin, getattr(task.surrogate, "origin", None)):
        if origin is not None and origin.version:
            found[origin.distribution] = origin.version
    return found | {
        "machine": f"{platform.system()} {platform.machine()}",
        "device": jax.devices()[0].device_kind,
    }


def compare(chosen: Chosen, task: Task, *, force: bool = False, trust: bool = False) -> list[str]:
    """Differences between this run and the one that wrote its file, as clauses.

    Args:
        chosen: the settings, with what the file recorded.
        task: the task that they describe.
        force: accept other data.
        trust: accept another file of the user's model.

    Raises:
        DataError: the data are not those of the file.
        ModelError: the file of the user's model has changed.
    """
    said, now = chosen.record, record(chosen, task)
    if not force:
        _same_hash(said, now, "data_sha256", f"The data set {task.data.name!r}", DataError)
    if not (force or trust):
        _same_hash(said, now, "model_sha256", f"The file of the model {chosen.settings.model}", ModelError)
    before = said.get("versions", {}) | said.get("numerics", {})
    current = now["versions"] | now["numerics"]
    return differences(before, {name: current.get(name, value) for name, value in before.items()})


def append_metrics(folder: Path, row: Mapping[str, Any]) -> None:
    """Add one line of JSON; numbers that are not finite become null."""
    with writing_to(folder / METRICS), open(folder / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(row), allow_nan=False) + "\n")


def read_metrics(
    folder: Path, up_to_step: int | None = None, say: Callable[[str], None] = lambda sentence: None
) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; damaged lines are left out, and a last one that was cut off without a word.

    Args:
        folder: the folder of the run.
        up_to_step: drop later rows, also from the file, because training continues from there.
        say: called with a sentence about every damaged line.
    """
    path = folder / METRICS
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            say(f"Line {number} of {path} is damaged and left out.")
    if up_to_step is None:
        return rows
    kept = [row for row in rows if row["step"] <= up_to_step]
    beside = path.with_name(f".{METRICS}")
    with writing_to(path):
        beside.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(beside, path)
    return kept


def _row(line: bytes) -> dict[str, Any] | None:
    """The metrics in a line; None if it is damaged."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) and "epoch" in row else None


def history(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The metrics of epochs as observers got them, from the rows of ``metrics.jsonl``.

    >>> history([{"epoch": 1, "step": 22, "train_loss": 0.5, "test_loss": None, "step_ms": 0.1}])
    [{'train_loss': 0.5, 'test_loss': nan}]
    """
    besides = ("epoch", "step", "step_ms")
    return [
        {key: math.nan if value is None else value for key, value in row.items() if key not in besides} for row in rows
    ]


def _parts(chosen: Chosen, task: Task) -> dict[str, dict[str, Any]]:
    """Settings of rule, data, surrogate and optimizer; TOML has no null, so those that are None are left out."""
    full = {
        "rule": task.rule.origin.settings if task.rule.origin else {},
        "data": task.data.origin.settings if task.data.origin else {},
        "surrogate": task.surrogate.origin.settings if task.surrogate is not None else {},
        "optimizer": chosen.parts["optimizer"],
    }
    stripped = {part: {key: value for key, value in given.items() if value is not None} for part, given in full.items()}
    return {part: given for part, given in stripped.items() if given}


def _same_hash(said: Mapping[str, Any], now: Mapping[str, Any], name: str, what: str, kind: type[Exception]) -> None:
    before, after = said.get(name), now.get(name, "none")
    if before is not None and before != after:
        raise kind(
            f"{what} is not the one that the configuration was written with: its SHA-256 is {after}, "
            f"expected {before}.",
            "Restore the original, or accept what is there with --force (force=True).",
        )


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}

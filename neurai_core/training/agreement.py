"""Comparisons and sweeps that can be interrupted and continued, as long as their recorded settings stay the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from neurai_core.errors import DataError, OutputError
from neurai_core.training.deciding import numerics
from neurai_core.training.folders import timed_folder
from neurai_core.training.json_files import plain, read_json, write_json
from neurai_core.training.lock import LOCK
from neurai_core.training.record import versions
from neurai_core.training.task import Task
from neurai_core.training.writing import writing_to

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Work:
    """A kind of work: comparisons, or sweeps.

    Attributes:
        word: what it is called.
        plan: name of the file that holds its record.
        listed: the parts of a record that are lists of names or numbers, or begin with one.
        settings: record -> pairs of the settings by name and, before them, whose they are: `` of RULE``, or nothing.
        damaged: what to do if a file of its folder is damaged.
    """

    word: str
    plan: str
    listed: tuple[str, ...]
    settings: Callable[[Record], Iterable[tuple[str, Record]]]
    damaged: str

    def record(self, decided: Record) -> dict[str, Any]:
        """Everything that must stay the same: what a plan decides, and how numbers are computed."""
        return cast(dict[str, Any], plain({**decided, "numerics": numerics()}))

    def refuse_other(self, folder: Path, record: Record) -> None:
        """Check that a folder is new, or empty, or holds a part of the same work.

        Raises:
            OutputError: it holds something else.
        """
        if os.path.isfile(folder / self.plan):  # unlike the methods of a path, accepts names that are too long
            before = read_json(folder / self.plan, *record, hint=self.damaged)
            hint = "Choose another --out, or give the settings with which it was begun."
            self.refuse_difference(f"{folder} holds a {self.word}", before, record, hint)
            return
        ours = LOCK, f".{self.plan}"  # of processes that begin at the same time
        with writing_to(folder):
            if folder.is_file() or (
                folder.is_dir() and not all(path.name.startswith(ours) for path in folder.iterdir())
            ):
                raise OutputError(f"{folder} is not empty, and it holds no {self.word}.", "Choose another --out.")

    def refuse_difference(self, what: str, before: Record, now: Record, hint: str) -> None:
        """Check that work was begun with the same settings.

        Args:
            what: the beginning of a sentence about it, such as ``runs/a holds a sweep``.
            before: its record.
            now: the record of what is to be done now.
            hint: what to do if they differ.

        Raises:
            OutputError: they differ; names the first setting that does.
        """
        for part in self.listed:
            first, second = (", ".join(map(str, one[part])) for one in (before, now))
            if first != second:
                raise OutputError(f"{what} with the {part} {first}, and now they are {second}.", hint)
        for (whose, was), (_, asked) in zip(self.settings(before), self.settings(now), strict=True):
            for name in {**was, **asked}:
                if was.get(name) != asked.get(name):
                    raise OutputError(
                        f"{what} in which {name}{whose} is {was.get(name)}, and now it is {asked.get(name)}.", hint
                    )

    def made(self, folder: Path | None, record: Record, *names: str) -> Path:
        """Make the folder, if there is none yet, with its record.

        Args:
            folder: None for one that is named by the time.
            record: the record.
            *names: further parts of that name.
        """
        folder = folder or timed_folder(f"{self.word}s", *names)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not (folder / self.plan).exists():
            write_json(folder / self.plan, record)
        return folder

    def read_result(
        self, path: Path, *needed: str, task: Task, done: str, note: Callable[[str], None]
    ) -> dict[str, Any]:
        """Read a part of the results, which must be of the same data and model.

        Args:
            path: the file, in a folder of the folder of the whole.
            *needed: keys that it has to have, besides those that are compared.
            task: the task that would be trained now.
            done: what gave them, such as ``FILE was written``.
            note: called with a sentence if they were got with other versions.

        Raises:
            OutputError: the file cannot be read.
            DataError: the data or the file of the model have changed.
        """
        compared = "data_sha256", "model_sha256", "versions"
        result = cast(dict[str, Any], read_json(path, *needed, *compared, hint=self.damaged))
        for what, now in (("data", task.data_sha256), ("model", task.source_sha256)):
            if result[f"{what}_sha256"] != now:
                raise DataError(
                    f"The {what} of this {self.word} changed since {done}.",
                    f"Restore the original, or choose another --out than {path.parent.parent}.",
                )
        installed = versions(task)
        changed = [
            f"{name} was {before} and is {installed.get(name)}"
            for name, before in result["versions"].items()
            if installed.get(name) != before
        ]
        if changed:
            note(f"{done} in another environment: {', '.join(changed)}.")
        return result

"""Metrics as a table, a file of comma-separated values."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurai_core.errors import OutputError, SettingsError
from neurai_core.hookspecs import hookimpl
from neurai_observers import CsvConfig


class CsvFile:
    """The observer: a row per epoch, a column per metric.

    A run that is resumed writes the epochs that count again and goes on, so that none is missing or there twice.

    Args:
        config: its settings.
        **context: not used.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> table = CsvFile(CsvConfig())
    >>> table.neurai_before_run([{"test_loss": 0.5}], folder)
    >>> table.neurai_after_epoch(2, {"test_loss": 0.25})
    >>> (folder / "metrics.csv").read_text().split()
    ['epoch,test_loss', '1,0.5', '2,0.25']
    """

    def __init__(self, config: CsvConfig, **context: Any) -> None:
        self.config = config
        self.rows: list[dict[str, float]] = []
        self.columns: tuple[str, ...] = ()
        self.path = Path()

    @hookimpl
    def neurai_before_run(self, history: Sequence[Mapping[str, float]], folder: Path | None) -> None:
        """Write the epochs that were done before."""
        if folder is None and not self.config.path:
            raise SettingsError("csv has no file to write to: this run has no folder.", "Give path=FILE.")
        self.path = Path(self.config.path) if self.config.path else Path(folder or "", "metrics.csv")
        self.rows = [{"epoch": epoch, **metrics} for epoch, metrics in enumerate(history, 1)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write_all()
        except OSError as error:
            raise OutputError(f"csv cannot write {self.path}: {error.strerror}.", "Give another path=FILE.") from error

    @hookimpl
    def neurai_after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add a row, and a column for every metric that is new."""
        row = {"epoch": epoch, **metrics}
        self.rows.append(row)
        if not row.keys() <= {*self.columns}:
            self._write_all()
        else:
            self._write(self.path, "a", [row])

    def _write_all(self) -> None:
        """Replace the file at once, so that no reader finds half of it."""
        self.columns = tuple(dict.fromkeys(name for row in self.rows for name in row))
        beside = self.path.with_name(f".{self.path.name}")
        self._write(beside, "w", [dict(zip(self.columns, self.columns, strict=True)), *self.rows])
        os.replace(beside, self.path)

    def _write(self, path: Path, mode: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with open(path, mode, encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerows(rows)

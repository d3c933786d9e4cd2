"""Pictures and tables say what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from neurai_core.errors import OutputError
from neurai_core.report.pictures import learning_curve
from neurai_core.report.tables import result_table, table

ROW = {"epoch": 1, "train_loss": 2.0, "test_loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.6}
RESULT = {
    "rule": "bp",
    "data": "digits",
    "train_loss": 0.123456,
    "train_accuracy": 0.98765,
    "test_loss": 0.2,
    "test_accuracy": None,
    "steps": 10,
    "step_ms": 1.23456,
}


def text(shown: object) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 (recorded, not written)
    with console.file:
        console.print(shown)
        return console.export_text()


def test_a_learning_curve_has_a_panel_for_loss_and_one_for_accuracy(tmp_path: Path) -> None:
    rows = [ROW | {"epoch": epoch} for epoch in (1, 2, 3)]
    both = imread(learning_curve(rows, tmp_path / "both.png", title="bp on digits"))
    loss_only = [{key: row[key] for key in ("epoch", "train_loss", "test_loss")} for row in rows]
    one = imread(learning_curve(loss_only, tmp_path / "one.png"))
    assert both.shape[1] == 2 * one.shape[1]
    assert len(np.unique(both[..., :3].reshape(-1, 3), axis=0)) > 10  # something is drawn, in colors


def test_a_single_epoch_can_be_drawn(tmp_path: Path) -> None:
    assert learning_curve([ROW], tmp_path / "one.png").exists()


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        learning_curve([ROW], tmp_path / "none" / "a.png")


def test_the_result_table_has_loss_accuracy_and_time() -> None:
    shown = text(result_table(RESULT))
    for part in ("bp on digits", "0.1235", "0.9877", "1.235 ms", "test"):
        assert part in shown


def test_cells_are_printed_as_they_are() -> None:
    shown = text(table(("a", "b"), [("[bold]x", None), (r"\frac{1}{2}", 3)]))
    assert "[bold]x" in shown
    assert r"\frac{1}{2}" in shown
    assert "-" in shown

"""Pictures and tables say what they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.image import imread
from rich.console import Console

import neurai_core
from neurai_core.errors import OutputError
from neurai_core.report import canvas as style
from neurai_core.report import gallery, generation, pictures, relaxation
from neurai_core.report.pictures import learning_curve
from neurai_core.report.tables import result_table, table
from neurai_core.specs import Relaxes

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


def text(shown: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 (recorded, not written)
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


def test_pictures_have_no_background_and_ink_that_reads_on_black_and_on_white(tmp_path: Path) -> None:
    image = imread(learning_curve([ROW], tmp_path / "a.png", title=r"$\nothing on $_"))
    assert (image[..., 3] == 0).mean() > 0.8
    solid = image[image[..., 3] == 1][:, :3]
    assert solid.mean(axis=1).min() > 0.2 and solid.mean(axis=1).max() < 0.8


@pytest.mark.parametrize(("low", "scale"), [(1e-6, "log"), (0.5, "log"), (0.0, "linear"), (-1.0, "linear")])
def test_losses_are_drawn_on_a_logarithmic_axis_when_all_are_positive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float, scale: str
) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(pictures, "canvas", recording(drawn))
    learning_curve([ROW, ROW | {"epoch": 2, "train_loss": low, "test_loss": None}], tmp_path / "a.png")
    assert [axes.get_yscale() for axes in drawn] == [scale, "linear"]


def test_a_phase_that_was_skipped_is_in_the_legend_and_the_legend_inside_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(relaxation, "canvas", recording(drawn))
    force = 0.5 ** np.arange(5)
    trace = {"free": {}, "nudged": {"energy": np.stack([force] * 3), "residual": np.stack([force] * 3)}}
    relaxes = Relaxes(trace="trace", steps="n", size="eta")
    relaxation.relaxation(trace, tmp_path / "a.png", relaxes, tol=0.1)
    figure = drawn[0].figure
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["free: skipped, it began at rest", "nudged 1", "nudged 2", "nudged 3", "tol"]
    assert inside(legend.get_window_extent(), figure.bbox)


@pytest.mark.parametrize("names", [["superspike"], ["superspike", "sigmoid"]])
def test_the_legend_of_a_gallery_is_inside_it_and_other_scales_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(gallery, "canvas", recording(drawn))
    gallery.surrogate_gallery({name: neurai_core.surrogate(name) for name in names}, tmp_path / "a.png")
    (legend,) = drawn[0].figure.legends
    assert inside(legend.get_window_extent(), drawn[0].figure.bbox)
    marked = [to_hex(axes.spines["left"].get_edgecolor()) == gallery.OTHER_SCALE for axes in drawn]
    assert marked == ([False] if len(names) == 1 else [True, False])


def test_generated_images_have_class_labels_and_the_mean_images_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(generation, "canvas", recording(drawn))
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    half = np.array([True, True, False, False])
    made = generation.Made(
        x, np.array([0, 1, 0, 1]), half, (2, 2, 1), x[:2], np.arange(2), [x], x, x, ("cat", "dog")
    )  # fmt: skip
    generation.generation(made, tmp_path / "a.png")
    assert [axes.get_title() for axes in drawn[:2]] == ["cat", "dog"]
    rows = {row.label: row.images for row in generation.rows_of(made)}
    np.testing.assert_array_equal(rows["mean of class"], [[4, 5, 6, 7], [8, 9, 10, 11]])
    np.testing.assert_array_equal(rows["by mean image"], [[0, 1, 8, 9], [4, 5, 8, 9]])


def recording(drawn: list[Axes]) -> Any:
    """`canvas`, which hands over what was drawn."""

    @contextmanager
    def canvas(*args: Any, **settings: Any) -> Iterator[Any]:
        with style.canvas(*args, **settings) as figure:
            yield figure
        drawn.extend(figure.axes)

    return canvas


def inside(box: Any, frame: Any) -> bool:
    return bool(box.x0 >= frame.x0 and box.y0 >= frame.y0 and box.x1 <= frame.x1 and box.y1 <= frame.y1)


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        learning_curve([ROW], tmp_path / "none" / "a.png")


def test_the_result_table_has_loss_accuracy_and_time() -> None:
    shown = text(result_table(RESULT))
    for part in ("bp on digits", "0.1235", "0.9877", "1.235 ms", "test"):
        assert part in shown


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_no_width_breaks_a_word(width: int) -> None:
    words = ["feedback-alignment", "back-propagation through fixed weights", "layered", "neurai-feedback"]
    shown = text(table(("name", "what it is", "needs", "distribution"), [words]), width)
    assert {word for value in words for word in value.split()} <= {*shown.split()}
    assert max(map(len, shown.splitlines())) <= width


def test_cells_are_printed_as_they_are() -> None:
    shown = text(table(("a", "b"), [("[bold]x", None), (r"\frac{1}{2}", 3)]))
    assert "[bold]x" in shown
    assert r"\frac{1}{2}" in shown
    assert "-" in shown

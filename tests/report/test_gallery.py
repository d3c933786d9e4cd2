"""The gallery draws what it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import neurai_core as neurai
from neurai_core.errors import OutputError
from neurai_core.report.gallery import surrogate_gallery
from neurai_core.surrogates import custom


def colors(path: Path) -> set[tuple[int, ...]]:
    pixels = np.unique(np.rint(255 * imread(path)[..., :3]).astype(int).reshape(-1, 3), axis=0)
    return {tuple(pixel) for pixel in pixels.tolist()}


def test_every_panel_has_derivative_primitive_and_step(tmp_path: Path) -> None:
    both = surrogate_gallery({"one": neurai.surrogate("sigmoid")}, tmp_path / "both.png")
    assert {(0, 114, 178), (213, 94, 0), (122, 122, 122)} <= colors(both)


def test_five_surrogates_take_two_rows(tmp_path: Path) -> None:
    bare = custom(derivative=lambda u: np.float32(0.5) * u * 0 + 1)
    drawn = surrogate_gallery({str(k): bare for k in range(5)}, tmp_path / "five.png")
    one_row = surrogate_gallery({str(k): bare for k in range(4)}, tmp_path / "four.png")
    assert imread(drawn).shape[0] > 1.5 * imread(one_row).shape[0]


def test_random_spikes_and_counts_can_be_drawn_in_other_formats(tmp_path: Path) -> None:
    chosen = {name: neurai.surrogate(name) for name in ("stochasticescape", "multilevelcount", "straightthrough")}
    assert surrogate_gallery(chosen, tmp_path / "some.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("name", ["none/a.png", "a.mp3"])
def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        surrogate_gallery({"one": neurai.surrogate("sigmoid")}, tmp_path / name)

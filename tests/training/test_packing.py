"""`neurai data pack`: the same data in files that are mapped, or nothing."""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.data import Dataset
from neurai_core.plugin import Plugin
from neurai_core.specs import DatasetSpec
from neurai_core.stored import is_stored
from neurai_core.training import packing

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (30, 3, 2)), np.arange(30) % 3


def npz(path: Path, save: Any = np.savez_compressed, **changed: Any) -> str:
    arrays = {"x_train": X[:20] / 255, "y_train": Y[:20] + 1, "x_test": X[20:] / 255, "y_test": Y[20:] + 1}
    save(path, **arrays | changed)
    return f"npz:{path}"


def idx(folder: Path) -> str:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    for name, array in zip(names, (X[:20], Y[:20], X[20:], Y[20:]), strict=True):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return f"idx:{folder}"


def packed(source: str, folder: Path, *more: str) -> Dataset:
    assert main(["data", "pack", source, str(folder), *more]) == 0
    return neurai.dataset("npy", path=str(folder))


def loaded(source: str, **settings: Any) -> Dataset:
    name, _, path = source.partition(":")
    return neurai.dataset(name, **({"path": path} if path else {}), **settings)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_the_same_data_as_files(tmp_path: Path, save: Any) -> None:
    source = npz(tmp_path / "mine.npz", save)
    data, expected = packed(source, tmp_path / "new" / "packed", "--set", "first=1"), loaded(source, first=1)
    assert data.sha256 == expected.sha256 and data.classes == expected.classes == ("1", "2", "3")
    assert is_stored(data.x_train)


def test_gzipped_pictures_stay_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = idx(tmp_path)
    data = packed(source, tmp_path / "packed", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(tmp_path / "packed"),
        "train": 20,
        "test": 10,
        "bytes": 30 * 6 + 30 * 4,
        "sha256": loaded(source).sha256,
    }
    assert data.sha256 == loaded(source).sha256
    assert np.load(tmp_path / "packed" / "x_train.npy").dtype == np.uint8
    assert sorted(os.listdir(tmp_path / "packed")) == [
        *("dataset.json", "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy")
    ]


def test_data_by_name_keep_classes_license_and_codes(tmp_path: Path) -> None:
    for source, settings in (("digits", {}), ("text", {"train": 20, "test": 10})):
        sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        data, expected = packed(source, tmp_path / source, *sets), loaded(source, **settings)
        assert data.sha256 == expected.sha256
        assert (data.classes, data.license) == (expected.classes, expected.license)


def test_data_without_targets_are_packed_without(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=X[:20], x_test=X[20:])
    data = packed(f"npz:{tmp_path / 'x.npz'}", tmp_path / "packed")
    assert not data.labeled and (np.asarray(data.x_train) == X[:20]).all()
    assert np.load(tmp_path / "packed" / "x_train.npy").dtype == np.float32


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["data", "pack", *arguments]) == 2
    return capsys.readouterr().err


def test_a_folder_that_exists_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "npz:nowhere.npz", str(tmp_path))
    assert f"{tmp_path} exists already." in said


def test_what_cannot_be_packed_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    x = np.where(X[:20] == X[3, 1, 1], np.nan, X[:20])
    assert "holds nan in row" in refused(
        capsys, npz(tmp_path / "a.npz", x_train=x), str(place / "a"), "--set", "first=1"
    )
    damaged = tmp_path / "b.npz"
    source = npz(damaged)
    damaged.write_bytes(damaged.read_bytes()[:-300])
    assert "b.npz is not an .npz archive" in refused(capsys, source, str(place / "b"))
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    assert "needs 840 bytes, and 100 are free" in refused(
        capsys, npz(tmp_path / "c.npz"), str(place / "c"), "--set", "first=1"
    )
    assert list(place.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, array: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    place = tmp_path / "place"
    monkeypatch.setattr(packing, "_write_array", interrupt)
    assert main(["data", "pack", "digits", str(place / "digits")]) == 130
    assert list(place.iterdir()) == []


def test_a_data_set_learns_where_to_unpack(tmp_path: Path) -> None:
    seen: list[Any] = []

    def build(config: Any, **context: Any) -> Dataset:
        seen.append(context)
        return Dataset("mine", X[:20] / 255, Y[:20], X[20:] / 255, Y[20:], classes=("a", "b", "c"))

    spec = DatasetSpec(name="mine", summary="Random numbers", split="by row", source="drawn")
    with neurai.temporary(Plugin(spec, build)):
        packed("mine", tmp_path / "packed")
    assert seen[0]["unpack_into"].parent.parent == tmp_path

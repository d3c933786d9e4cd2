"""Folders of numpy files and IDX files that are mapped: what they give, and how bad ones are refused."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.data import Dataset, check
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray, is_stored
from neurai_core.testing import check_dataset, failures
from neurai_datasets import IdxConfig, NpyConfig, idx_folder
from neurai_datasets.idx_files import FILES, TEST_IMAGES, TRAIN_IMAGES
from neurai_datasets.npy_folder import build

X = np.arange(30 * 6, dtype=np.uint8).reshape(30, 3, 2)
Y = np.arange(30, dtype=np.uint8) % 3


def saved(folder: Path, **changed: Any) -> Path:
    """A folder of four files; None leaves one out."""
    folder.mkdir(exist_ok=True)
    arrays = {"x_train": X[:20], "y_train": Y[:20], "x_test": X[20:], "y_test": Y[20:]} | changed
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    return folder


def load(folder: Path, **settings: Any) -> Dataset:
    return check(build(NpyConfig(path=str(folder), **settings)))


def test_bytes_become_numbers_up_to_one_and_labels_classes(tmp_path: Path) -> None:
    data = load(saved(tmp_path))
    assert is_stored(data.x_train) and is_stored(data.x_test)
    assert data.x_train.dtype == np.float32 and data.input_shape == (3, 2)
    assert (data.x_train[5] == X[5].astype(np.float32) / 255).all()
    assert data.y_train.dtype == np.int32 and data.classes == ("0", "1", "2")
    assert (load(tmp_path, unit=1).x_train[5] == X[5]).all()


def test_floats_are_mapped_and_whole_numbers_stay_codes(tmp_path: Path) -> None:
    for dtype, kept in (("f4", "f4"), ("f8", "f4"), ("f2", "f4"), ("i4", "i4"), ("i8", "i8")):
        data = load(saved(tmp_path, x_train=X[:20].astype(dtype), x_test=X[20:].astype(dtype)))
        assert data.x_train.dtype == np.dtype(kept) and is_stored(data.x_train)
        assert (np.asarray(data.x_train) == X[:20]).all()


def test_numbers_that_32_bits_cannot_hold_are_named_and_not_cut_off(tmp_path: Path) -> None:
    wide = X[:20].astype(np.int64)
    wide[7, 1, 0] = 2**40
    with pytest.raises(DataError, match=r"x_train of .* holds 1099511627776 in row 7, which int32 cannot hold"):
        load(saved(tmp_path, x_train=wide))
    labels = Y[:20].astype(np.int64)
    labels[4] += 2**32
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    with pytest.raises(DataError, match=r"y_train of .* holds label 4294967297 in row 4, outside the classes 0\.\.2"):
        load(saved(tmp_path, x_train=X[:20], y_train=labels))


def test_targets_may_be_numbers_or_missing(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    data = load(saved(tmp_path, y_train=targets[:20], y_test=targets[20:]))
    assert data.classes is None and is_stored(data.y_train)
    for name in ("y_train", "y_test"):
        (tmp_path / f"{name}.npy").unlink()
    assert not load(tmp_path).labeled


def test_facts_beside_the_files_name_classes_license_and_unit(tmp_path: Path) -> None:
    (saved(tmp_path) / "dataset.json").write_text('{"classes": ["a", "b", "c"], "license": "CC0-1.0", "unit": 1}')
    data = load(tmp_path)
    assert (data.classes, data.license, float(data.x_train[1, 0, 0])) == (("a", "b", "c"), "CC0-1.0", 6.0)
    with pytest.raises(DataError, match=r"dataset\.json names the classes, and first=1 is given"):
        load(tmp_path, first=1)
    for wrong, said in (("[]", ""), ('{"classes": "abc"}', r": classes is 'abc', expected a list of names")):
        (tmp_path / "dataset.json").write_text(wrong)
        with pytest.raises(DataError, match=rf"dataset\.json cannot be read{said}"):
            load(tmp_path)


def test_labels_that_count_from_one_need_first(tmp_path: Path) -> None:
    saved(tmp_path, y_train=Y[:20] + 1, y_test=Y[20:] + 1)
    with pytest.raises(DataError, match="run from 1 to 3, expected classes that count from 0"):
        load(tmp_path)
    assert load(tmp_path, first=1).classes == ("1", "2", "3")


def test_the_checks_of_data_sets_pass(tmp_path: Path) -> None:
    outcomes = check_dataset("npy", settings={"path": str(saved(tmp_path))})
    assert not failures(outcomes), failures(outcomes)


def damage(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{name}.npy"
        path.write_bytes(content(path.read_bytes()))

    return change


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: (folder / "y_test.npy").unlink(), r"lacks y_test\.npy; it holds x_train\.npy, y_train"),
    "cut off": (damage("x_train", lambda content: content[:-1]), r"x_train\.npy cannot be mapped"),
    "no array": (damage("x_test", lambda content: b"PNG"), r"x_test\.npy cannot be mapped"),
    "empty file": (damage("x_test", lambda content: b""), r"x_test\.npy cannot be mapped"),
    "no rows": (lambda folder: saved(folder, x_test=X[:0], y_test=Y[:0]), "x_test.*(cannot be mapped|is empty)"),
    "objects": (lambda folder: saved(folder, x_train=np.array([None] * 20)), r"x_train\.npy cannot be mapped"),
    "text": (lambda folder: saved(folder, x_train=np.full((20, 2), "a")), "x_train in .* has dtype <U1"),
    "columns": (
        lambda folder: saved(folder, x_train=np.asfortranarray(X[:20].reshape(20, 6))),
        r"x_train\.npy is stored column by column",
    ),
    "other machine": (lambda folder: saved(folder, x_train=X[:20].astype(">i4")), "has dtype >i4, of another machine"),
    "lengths": (lambda folder: saved(folder, y_train=Y[:19]), "x_train of npy has 20 rows and y_train of npy has 19"),
    "kinds": (lambda folder: saved(folder, y_train=Y[:20] / 2), "have dtypes float64 and uint8"),
    "nan": (
        lambda folder: saved(folder, x_train=np.where(X[:20] == 8, np.nan, X[:20])),
        r"x_train of npy holds nan in row 1 at \(1, 0\)",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_folder_is_refused_by_file(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    change(saved(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "what"), [("nowhere", "does not exist"), ("x_train.npy", "is a file")])
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(DataError, match=f"{what}, expected a folder with x_train.npy, y_train.npy"):
        load(saved(tmp_path) / name)


# ---------------------------------------------------------------------------- IDX files


def idx_folder_of(folder: Path, code: int = 0x08, dtype: str = ">u1") -> Path:
    for name, array in zip(FILES, (X[:20], Y[:20], X[20:], Y[20:]), strict=True):
        kind = (code, dtype) if array.ndim > 1 else (0x08, ">u1")
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind[0], array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.astype(kind[1]).tobytes())
    return folder


@pytest.mark.parametrize(("code", "dtype"), [(0x08, ">u1"), (0x0B, ">i2"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_mapped_pictures_are_those_in_memory(tmp_path: Path, code: int, dtype: str) -> None:
    folder = idx_folder_of(tmp_path, code, dtype)
    memory, mapped = (idx_folder.build(IdxConfig(path=str(folder), mapped=one)) for one in (False, True))
    assert isinstance(mapped.x_train, StoredArray) and isinstance(memory.x_train, np.ndarray)
    assert mapped.input_shape == memory.input_shape == (3, 2, 1)
    assert mapped.sha256 == memory.sha256
    assert [Path(one.path).name for one in mapped.files] == [TRAIN_IMAGES, TEST_IMAGES]


def test_only_large_pictures_that_are_not_gzipped_are_mapped_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IdxConfig(path=str(idx_folder_of(tmp_path)))
    assert not is_stored(idx_folder.build(config).x_train)
    monkeypatch.setattr(idx_folder, "LARGE", 150)
    assert is_stored(idx_folder.build(config).x_train)
    path = tmp_path / TEST_IMAGES
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert not is_stored(idx_folder.build(config).x_train)
    with pytest.raises(DataError, match=f"{TEST_IMAGES} is gzipped, so that its rows cannot be read one by one"):
        neurai.dataset("idx", path=str(tmp_path), mapped=True)


def test_a_mapped_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = idx_folder_of(tmp_path) / TRAIN_IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} is truncated: it has 135 bytes"):
        neurai.dataset("idx", path=str(tmp_path), mapped=True)


def test_a_run_records_the_folder_and_what_was_set(tmp_path: Path) -> None:
    origin = neurai.dataset("npy", path=str(saved(tmp_path))).origin
    assert origin is not None
    assert json.loads(origin.to_json())["settings"] == {"path": str(tmp_path), "first": None, "unit": None}

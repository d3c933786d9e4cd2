"""Arrays on disk: rows are converted as the whole would be, and a file that changes is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurai_core import stored
from neurai_core.data import Dataset, check
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray, check_unchanged, files_of, is_stored, parts_of, read_rows, row_reader


def mapped(path: Path, array: np.ndarray) -> np.ndarray:
    np.save(path, array)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "i8", "f2", ">f4", "f8"])
@pytest.mark.parametrize("unit", [1, 255])
def test_rows_are_converted_as_the_whole_array_is(tmp_path: Path, dtype: str, unit: float) -> None:
    numbers = np.arange(60).reshape(12, 5).astype(dtype)
    x = StoredArray(mapped(tmp_path / "x.npy", numbers), unit)
    whole = numbers.astype(np.float32) / np.float32(unit)
    assert x.dtype == whole.dtype == np.asarray(x).dtype
    assert (np.asarray(x) == whole).all()
    assert (x[[7, 2]] == whole[[7, 2]]).all()
    assert (x.reshape(12, 5, 1)[3:5] == whole[3:5, :, None]).all()


def test_only_what_is_mapped_or_converted_is_stored(tmp_path: Path) -> None:
    on_disk = mapped(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    assert all(map(is_stored, (on_disk, np.asarray(on_disk), on_disk.reshape(3, 2, 2), StoredArray(on_disk))))
    assert not any(map(is_stored, (np.zeros(3), np.array(on_disk), on_disk + 1)))


def test_the_data_hash_is_that_of_the_values_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored.parts_of, "__defaults__", (64,))  # many parts
    x, y = np.arange(120, dtype=np.uint8).reshape(20, 3, 2), np.arange(20) % 3
    memory = Dataset("mine", x.astype(np.float32) / np.float32(255), y, x[:5] / np.float32(255), y[:5], ("a", "b", "c"))
    parts = StoredArray(mapped(tmp_path / "x.npy", x), 255), StoredArray(mapped(tmp_path / "t.npy", x[:5]), 255)
    assert replace(memory, x_train=parts[0], x_test=parts[1]).sha256 == memory.sha256


@pytest.mark.parametrize("form", [np.asarray, StoredArray], ids=["map", "converted"])
def test_a_bad_row_of_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable) -> None:
    monkeypatch.setattr(stored.parts_of, "__defaults__", (64,))
    x, y = np.zeros((20, 3, 2), np.float32), np.zeros(20, int)
    x[13, 2, 1] = np.nan
    data = Dataset("mine", form(mapped(tmp_path / "x.npy", x)), y, x[:5], y[:5], classes=("a",))
    with pytest.raises(DataError, match=r"x_train of mine holds nan in row 13 \(batch 6\) at \(2, 1\)") as caught:
        check(data, batch_size=2)
    assert caught.value.hint == "1 of 20 rows hold NaN or inf; remove or repair them."


@pytest.mark.parametrize("dtype", ["u1", ">f4", "f8"])
def test_rows_that_are_read_are_those_of_the_map(tmp_path: Path, dtype: str) -> None:
    x = mapped(tmp_path / "x.npy", np.arange(120).reshape(20, 3, 2).astype(dtype))
    rows = np.array([19, 0, 7, 7])
    for array in (x, np.asarray(x), x.reshape(20, 6), x[4:][:16], x[::2], x[:, 1:], np.array(x)):
        chosen = rows % len(array)
        for found in (read_rows(array, chosen), row_reader(array)(chosen)):
            assert (found == array[chosen]).all() and found.dtype == array.dtype and not is_stored(found)


def test_only_a_file_that_fits_into_memory_is_read_through_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, rows = mapped(tmp_path / "x.npy", np.arange(60).reshape(20, 3)), np.array([19, 0])
    through_map = row_reader(x)
    monkeypatch.setattr(stored, "free_memory", lambda: x.nbytes)
    from_file = row_reader(x)
    assert (through_map(rows) == from_file(rows)).all()
    assert (through_map.func, from_file.func) == (stored._taken, read_rows)  # type: ignore[attr-defined]


def test_a_row_beyond_the_end_of_a_shorter_file_is_missed(tmp_path: Path) -> None:
    x = mapped(tmp_path / "x.npy", np.zeros((20, 100)))
    os.truncate(tmp_path / "x.npy", 4000)
    with pytest.raises(DataError, match="it has no row 19"):
        read_rows(x, np.array([2, 19]))


def test_parts_are_all_rows_in_order() -> None:
    x = np.arange(21).reshape(7, 3)
    for at_once in (1, 24, 50, 10_000):
        assert (np.concatenate([*parts_of(x, at_once)]) == x).all()
    assert [part.shape for part in parts_of(np.zeros((0, 3)))] == [(0, 3)]


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def cut(path: Path) -> None:
    os.truncate(path, 100)


def exchange(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)


CHANGES = {
    touch: "it was written to",
    cut: "it had 176 bytes and has 100",
    exchange: "another file took its place",
    Path.unlink: "it cannot be found any more",
}


@pytest.mark.parametrize(("change", "said"), CHANGES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_file_that_changes_is_named_with_what_changed(tmp_path: Path, change: Callable, said: str) -> None:
    path = tmp_path / "x.npy"
    files = files_of(StoredArray(mapped(path, np.zeros((3, 4), np.float32)).reshape(3, 2, 2)))
    assert [one.path for one in files] == [str(path)]
    check_unchanged(files)
    change(path)
    with pytest.raises(DataError, match=f"{path} changed while it was read: {said}"):
        check_unchanged(files)


def test_a_data_set_remembers_its_files_as_they_were_when_it_was_made(tmp_path: Path) -> None:
    x, y = mapped(tmp_path / "x.npy", np.zeros((3, 4), np.float32)), np.zeros(3, int)
    data = Dataset("mine", x, y, x, y, classes=("a",))
    touch(tmp_path / "x.npy")
    again = replace(data, x_train=data.x_train.reshape(3, 2, 2))
    assert again.files == data.files and len(data.files) == 1
    with pytest.raises(DataError, match="it was written to"):
        check_unchanged(again.files)

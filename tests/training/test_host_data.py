"""Data that stay on the host: the same bits as on the device, whatever stores them, and a thread that always ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.data import Dataset, order
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray
from neurai_core.training import host_data
from neurai_core.training.host_data import gatherer, host_feed, on_device, prefetched

BYTES = np.round(neurai.dataset("digits").x_train[:260].reshape(-1, 64) * 255).astype(np.uint8)
LABELS = neurai.dataset("digits").y_train[:260]
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 50, "lr": 1e-2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of numpy files: 200 pictures of bytes to train on, 60 to test on."""
    (tmp_path / "data").mkdir()
    for name, array in (("x", BYTES), ("y", LABELS)):
        np.save(tmp_path / "data" / f"{name}_train.npy", array[:200])
        np.save(tmp_path / "data" / f"{name}_test.npy", array[200:])
    return tmp_path / "data"


def in_memory() -> Dataset:
    x = BYTES.astype(np.float32) / np.float32(255)
    return Dataset("npy", x[:200], LABELS[:200], x[200:], LABELS[200:], classes=tuple("0123456789"))


def same_bits(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def without_times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "step_ms"} for row in rows]


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "neurai rows"]


@pytest.mark.few(1)
@pytest.mark.parametrize(("rule", "model"), [("bp", "mlp:8"), ("pc", "mlp:8"), ("hebbian", "mlp:8")])
def test_a_run_on_mapped_files_gives_the_bits_of_one_in_memory(rule: str, model: str, folder: Path) -> None:
    memory, mapped = in_memory(), neurai.dataset("npy", path=str(folder))
    assert on_device(memory) and not on_device(mapped)
    assert mapped.sha256 == memory.sha256
    one, other = (neurai.fit(rule, model, None, data, **SMALL) for data in (memory, mapped))
    same_bits(one.params, other.params)
    assert without_times(one.metrics) == without_times(other.metrics)
    assert threads() == []


@pytest.mark.few(1)
@pytest.mark.parametrize("form", ["float map", "double map", "too large for the device"])
def test_every_way_to_stay_on_the_host_gives_the_same_bits(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = in_memory()
    expected = neurai.fit("bp", "mlp:8", None, memory, **SMALL)
    if form == "too large for the device":
        monkeypatch.setattr(host_data, "device_bytes", lambda: 4 * memory.x_test.nbytes)
        data = memory
    else:
        np.save(tmp_path / "x.npy", memory.x_train.astype(np.float64 if form == "double map" else np.float32))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        data = replace(memory, x_train=StoredArray(mapped) if form == "double map" else mapped)
    assert not on_device(data)
    same_bits(neurai.fit("bp", "mlp:8", None, data, **SMALL).params, expected.params)


@pytest.mark.usefixtures("x64")
def test_doubles_stay_doubles_in_the_thread(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BYTES[:200].astype(np.float64) / 255)
    data = replace(in_memory(), x_train=np.load(tmp_path / "x.npy", mmap_mode="r"))
    ((x, y), *_) = host_feed(data, 0, 50)(0, 0)
    assert x.dtype == np.float64 and y.dtype == LABELS.dtype
    assert (np.asarray(x) == data.x_train[order(0, 0, 200)[:50]]).all()


def test_rows_come_in_the_order_that_was_asked_for(folder: Path) -> None:
    data = neurai.dataset("npy", path=str(folder))
    rows = np.array([150, 3, 3, 199, 0])
    x, y = gatherer(data)(rows)
    assert x.dtype == np.uint8 and (x == BYTES[rows]).all() and (y == LABELS[rows]).all()


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(folder: Path, tmp_path: Path) -> None:
    def run(out: str, *more: str) -> Path:
        arguments = ["train", "--data", f"npy:{folder}", "--model", "mlp:8", "--rule", "bp", "--batch-size", "50"]
        assert main([*arguments, "--epochs", "2", "--quiet", "--out", str(tmp_path / out), *more]) == 0
        return tmp_path / out

    class Stop:
        @neurai.hookimpl
        def neurai_after_step(self, step: int) -> str:
            return "enough" if step == 5 else ""

    whole = run("whole")
    with neurai.observe(Stop()):
        stopped = run("stopped", "--every", "1")
    assert (stopped / "params.safetensors").read_bytes() != (whole / "params.safetensors").read_bytes()
    assert threads() == []
    assert main(["train", "--resume", str(stopped), "--quiet"]) == 0
    assert (stopped / "params.safetensors").read_bytes() == (whole / "params.safetensors").read_bytes()


def test_data_that_change_while_being_read_end_the_run_in_one_sentence_and_keep_what_was_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Change:
        @neurai.hookimpl
        def neurai_after_step(self, step: int) -> None:
            if step == 0:
                os.utime(folder / "x_train.npy", ns=(1, 1))

    arguments = ["train", "--data", f"npy:{folder}", "--model", "mlp:8", "--rule", "bp", "--batch-size", "10"]
    with neurai.observe(Change()):
        assert main([*arguments, "--epochs", "2", "--quiet", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "x_train.npy changed while it was read: it was written to." in said
    assert said.count("error:") == 1 and "Traceback" not in said
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert threads() == []


# ---------------------------------------------------------------------------- the thread


def counting(made: list[int], n: int = 100) -> Iterator[int]:
    for item in range(n):
        made.append(item)
        yield item


def test_what_is_made_ahead_is_bounded() -> None:
    made: list[int] = []
    items = prefetched(counting(made), ahead=2)
    assert next(items) == 0
    for _ in range(50):
        if len(made) >= 3:
            break
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)
    assert len(made) == 3  # one given, two waiting
    assert list(items) == [*range(1, 100)]


def test_an_error_of_the_thread_comes_in_the_place_of_its_item() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise DataError("The disk is gone.")

    items = prefetched(failing())
    assert next(items) == 1
    with pytest.raises(DataError, match="The disk is gone"):
        next(items)
    assert threads() == []


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_the_thread_ends_with_what_takes_its_items(taken: int) -> None:
    items = prefetched(counting([]), ahead=1)
    for _ in range(taken):
        next(items)
    items.close()
    assert threads() == []

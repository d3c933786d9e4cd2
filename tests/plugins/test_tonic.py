"""Data sets of tonic: small files in the formats of N-MNIST, DVS Gesture and SHD, binned as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import DataError
from neurai_core.stored import is_stored

tonic_datasets = pytest.importorskip("tonic.datasets")

from neurai_datasets.tonic_events import counted  # noqa: E402

RANDOM = np.random.default_rng(0)
NAMES = ("t", "x", "y", "p")


@pytest.fixture(autouse=True)
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tonic takes a folder for unpacked if it holds thousands of files; here, one is enough."""
    enough = tonic_datasets.NMNIST._folder_contains_at_least_n_files_of_type
    base = tonic_datasets.NMNIST.__mro__[1]
    monkeypatch.setattr(base, enough.__name__, lambda source, n, kind: enough(source, 1, kind))


def events_of(n: int, width: int, height: int, most: int) -> dict[str, np.ndarray]:
    """Random events in the order of their times, with at least one at each end."""
    times = np.sort(RANDOM.integers(0, most, n))
    times[[0, -1]] = 0, most - 1
    places = {"x": RANDOM.integers(0, width, n), "y": RANDOM.integers(0, height, n), "p": RANDOM.integers(0, 2, n)}
    return {"t": times, **places}


def nmnist(folder: Path, per_class: int = 2) -> dict[str, dict[str, np.ndarray]]:
    """Files of N-MNIST: five bytes per event, x, y, and 1 bit of polarity before 23 of microseconds."""
    written = {}
    for part in ("Train", "Test"):
        for label in range(10):
            place = folder / "NMNIST" / part / str(label)
            place.mkdir(parents=True)
            for number in range(per_class):
                one = events_of(40, 34, 34, 300_000)
                words = (one["p"] << 23) | one["t"]
                columns = (one["x"], one["y"], words >> 16, (words >> 8) & 255, words & 255)
                path = place / f"{number:05}.bin"
                path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())
                written[f"{part}/{label}/{number}"] = one
        (folder / "NMNIST" / f"{part.lower()}.zip").touch()
    return written


def dvs_gesture(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Files of DVS Gesture as tonic has them: rows of x, y, polarity and milliseconds; the label is the name."""
    written = {}
    for part in ("Train", "Test"):
        for user in ("user02_fluorescent", "user01_led"):
            place = folder / "DVSGesture" / f"ibmGesture{part}" / user
            place.mkdir(parents=True)
            for label in (3, 0, 10):
                one = events_of(60, 128, 128, 900)
                np.save(
                    place / f"{label}.npy", np.stack([one["x"], one["y"], one["p"], one["t"]], axis=1).astype(float)
                )
                written[f"{part}/{label}/{user}"] = one | {"t": one["t"] * 1000}
        (folder / "DVSGesture" / f"ibmGesture{part}.tar.gz").touch()
    return written


def shd(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """HDF5 files of SHD: times in seconds, units, labels."""
    h5py = pytest.importorskip("h5py")
    written = {}
    (folder / "SHD").mkdir(parents=True)
    for part in ("train", "test"):
        with h5py.File(folder / "SHD" / f"shd_{part}.h5", "w") as file:
            for name, dtype in (("times", np.float16), ("units", np.uint16)):
                file.create_dataset(f"spikes/{name}", (3,), h5py.vlen_dtype(dtype))
            for at, label in enumerate((1, 0, 1)):
                times = np.sort(RANDOM.random(30).astype(np.float16))
                units = RANDOM.integers(0, 700, 30)
                file["spikes/times"][at], file["spikes/units"][at] = times, units
                micro = (times.astype(np.float64) * 1e6).astype(int)
                written[f"{part}/{label}/{at}"] = {"t": micro, "x": units, "y": 0 * units, "p": 0 * units}
            file["labels"] = np.array([1, 0, 1])
            file["extra/keys"] = np.array([b"zero", b"one"])
            file["extra/speaker"] = np.zeros(3, int)
        (folder / "SHD" / f"shd_{part}.h5.zip").touch()
    return written


def by_hand(one: dict[str, np.ndarray], sensor: tuple[int, int, int], steps: int) -> np.ndarray:
    """Counts (T, P, H, W), by a loop over events."""
    width, height, polarities = sensor
    counts = np.zeros((steps, polarities, height, width))
    first, last = one["t"].min(), one["t"].max()
    for t, x, y, p in zip(*(one[name] for name in NAMES), strict=True):
        step = min(int((t - first) * (steps / (last - first))), steps - 1)
        counts[step, p, y, x] += 1
    return counts.reshape(steps, -1)


@pytest.mark.parametrize(
    ("name", "write", "sensor"),
    [
        ("NMNIST", nmnist, (34, 34, 2)),
        ("DVSGesture", dvs_gesture, (128, 128, 2)),
        ("SHD", shd, (700, 1, 1)),
    ],
)
def test_events_are_counted_where_and_when_they_were(name: str, write: Any, sensor: Any, tmp_path: Path) -> None:
    written = write(tmp_path)
    train = {key: one for key, one in written.items() if key.lower().startswith("train")}
    keys = sorted(train, key=lambda key: (int(key.split("/")[1]), key.split("/")[2]))
    data = neurai.dataset("tonic", which=name.lower(), folder=str(tmp_path), steps=7, download=False)
    assert is_stored(data.x_train) and data.x_train.dtype == np.float32
    assert data.x_train.shape == (len(keys), 7, np.prod(sensor))
    assert data.y_train.tolist() == [int(key.split("/")[1]) for key in keys]
    for row, key in zip(data.x_train[:], keys, strict=True):
        np.testing.assert_array_equal(row, by_hand(train[key], sensor, 7))
    assert len(data.x_test) == len(written) - len(train)
    again = neurai.dataset("tonic", which=name, folder=str(tmp_path), steps=7, download=False)
    other = neurai.dataset("tonic", which=name, folder=str(tmp_path), steps=6, download=False)
    assert again.sha256 == data.sha256 != other.sha256


def test_a_window_leaves_out_what_is_later() -> None:
    events = np.array([(0, 0), (99, 1), (100, 1), (250, 1)], [("t", int), ("x", int)])
    assert counted(events, (2, 1, 1), 4, window=200.0).tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    assert counted(events[:0], (2, 1, 1), 2, window=None).tolist() == [[0, 0], [0, 0]]
    many = np.zeros(300, [("t", int), ("x", int)])
    assert counted(many, (2, 1, 1), 1, window=None).tolist() == [[255, 0]]


def test_a_spiking_network_trains_on_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nmnist(tmp_path)
    monkeypatch.setenv("NEURAI_DATA", str(tmp_path))
    arguments = ["train", "--data", "tonic:NMNIST", "--model", "snn:4", "--steps", "3", "--epochs", "1"]
    out = tmp_path / "run"
    assert main([*arguments, "--batch-size", "5", "--quiet", "--out", str(out)]) == 0
    run = neurai.load_run(out)
    assert run.record["data"]["x"] == [3, 2312] and run.metrics[0]["step"] == 4


def test_damaged_missing_and_unsuitable_data_are_refused(tmp_path: Path) -> None:
    def load(name: str) -> Any:
        return neurai.dataset("tonic", which=name, folder=str(tmp_path), download=False)

    with pytest.raises(DataError, match=f"tonic finds no NMNIST in {tmp_path}/NMNIST, and download=False"):
        load("NMNIST")
    with pytest.raises(DataError, match="NMIST is not one of tonic's data sets") as caught:
        load("NMIST")
    assert "DVSGesture, DVSLip, EBSSA, NMNIST" in caught.value.hint
    with pytest.raises(DataError, match="MVSEC has no training and test part"):
        load("MVSEC")
    nmnist(tmp_path)
    data = load("NMNIST")
    path = tmp_path / "NMNIST" / "Train" / "0" / "00000.bin"
    path.write_bytes(bytes([200, 3, 0, 0, 0]))
    with pytest.raises(
        DataError, match=r"example 0 of tonic's NMNIST has an event at t=0, x=200, y=3, p=0 \(event 0\)"
    ):
        data.x_train[:1]
    path.unlink()
    with pytest.raises(DataError, match="example 0 of tonic's NMNIST cannot be read"):
        data.x_train[0]

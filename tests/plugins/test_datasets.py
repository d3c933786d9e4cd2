"""Each built-in data set delivers what its spec says, and refuses damaged or missing files by name."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_datasets
from neurai_core.data import Dataset
from neurai_core.errors import DataError, MissingExtra
from neurai_core.specs import Config, DatasetSpec
from neurai_datasets import (
    FASHION_CLASSES,
    FashionMnistConfig,
    IdxConfig,
    NpzConfig,
    TextConfig,
    fashion,
    sentences,
    uci_digits,
)
from neurai_datasets.idx_files import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

pytestmark = pytest.mark.contract

PLUGINS = {name: getattr(neurai_datasets, name) for name in ("digits", "fashion_mnist", "idx", "npz", "text")}


def build(name: str, config: Config) -> Dataset:
    return PLUGINS[name].neurai_build(config, {})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return build("digits", Config())


# What every data set says


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_the_spec_survives_json(plugin: Any):
    spec = plugin.neurai_spec()
    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.split
    assert spec.source


def test_describing_data_sets_imports_neither_numpy_nor_jax():
    code = (
        "import sys, json, neurai_datasets as d;"
        "[getattr(d, n).neurai_spec() for n in ('digits', 'fashion_mnist', 'idx', 'npz', 'text')];"
        "print(json.dumps(sorted({'numpy', 'jax', 'optax', 'pooch'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


# digits


def test_digits_are_what_their_spec_says(digits: Dataset):
    spec = PLUGINS["digits"].neurai_spec()
    assert digits.x_train.shape == (spec.train, *spec.shape)
    assert digits.x_test.shape == (spec.test, *spec.shape)
    assert digits.x_train.dtype == spec.dtype
    assert digits.y_train.dtype == np.int32
    assert digits.classes == spec.classes
    assert digits.license == spec.license


def test_digits_lie_in_the_unit_interval_in_sixteenths(digits: Dataset):
    for x in (digits.x_train, digits.x_test):
        assert x.min() == 0.0
        assert x.max() == 1.0
        assert (x * 16 == np.round(x * 16)).all()


def test_digits_hold_the_published_number_of_every_class(digits: Dataset):
    # Class distribution of the UCI test file, as scikit-learn's load_digits returns it.
    labels = np.concatenate([digits.y_train, digits.y_test])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_one_fifth_of_every_class_of_digits_is_for_testing(digits: Dataset):
    share = np.bincount(digits.y_test) / (np.bincount(digits.y_train) + np.bincount(digits.y_test))
    assert np.abs(share - 360 / 1797).max() < 1 / 174


def test_digits_have_the_hash_they_had_when_published(digits: Dataset):
    assert digits.sha256 == "ce2635a7e718d33941e18dc909c45d5f637e43892b0e9a1b9385cb0267de3c97"


def test_digits_equal_those_of_scikit_learn(digits: Dataset):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    with np.load(Path(neurai_datasets.__file__).parent / "data" / "digits.npz") as archive:
        test_rows = archive["test_rows"]
    assert (digits.x_test.reshape(-1, 64) * 16 == images[test_rows]).all()
    assert (digits.x_train.reshape(-1, 64) * 16 == np.delete(images, test_rows, axis=0)).all()
    assert (digits.y_train == np.delete(labels, test_rows)).all()


def test_digits_are_a_small_file():
    assert (Path(neurai_datasets.__file__).parent / "data" / "digits.npz").stat().st_size < 60_000


def test_a_damaged_digits_file_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uci_digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"digits\.npz is damaged.*expected 0000") as caught:
        build("digits", Config())
    assert "Reinstall" in caught.value.hint


# IDX files


def idx_bytes(array: np.ndarray, code: int = 0x08, dtype: str = ">u1") -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(dtype).tobytes()


def images_and_labels(n: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.arange(n * 28 * 28).reshape(n, 28, 28) % 256
    return images.astype(np.uint8), (np.arange(n) % 10).astype(np.uint8)


def streams() -> dict[str, bytes]:
    arrays = (*images_and_labels(20), *images_and_labels(10))
    return {name: idx_bytes(array) for name, array in zip(FILES, arrays, strict=True)}


def write(folder: Path, contents: dict[str, bytes], suffix: str = "", compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return folder


def load_idx(folder: Path) -> Dataset:
    return build("idx", IdxConfig(path=str(folder)))


def test_idx_images_become_floats_with_a_channel_axis(tmp_path: Path):
    data = load_idx(write(tmp_path, streams()))
    images, labels = images_and_labels(20)
    assert data.x_train.shape == (20, 28, 28, 1)
    assert data.x_train.dtype == np.float32
    assert (data.x_train[..., 0] == images.astype(np.float32) / 255).all()
    assert (data.y_train == labels).all()
    assert data.x_test.shape == (10, 28, 28, 1)
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("dotted", [False, True], ids=["dash", "dot"])
def test_every_usual_spelling_of_the_files_gives_the_same_data(tmp_path: Path, compress: bool, dotted: bool):
    renamed = {name.replace("-idx", ".idx") if dotted else name: content for name, content in streams().items()}
    write(tmp_path / "given", renamed, ".gz" if compress else "", compress)
    assert load_idx(tmp_path / "given").sha256 == load_idx(write(tmp_path / "plain", streams())).sha256


def test_a_gzipped_file_is_read_whatever_its_name_says(tmp_path: Path):
    assert load_idx(write(tmp_path, streams(), suffix="", compress=True)).n_classes == 10


@pytest.mark.parametrize(("code", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_other_idx_types_are_taken_as_they_are(tmp_path: Path, code: int, dtype: str):
    values = np.arange(20 * 4).reshape(20, 2, 2) - 40
    write(tmp_path, streams() | {TRAIN_IMAGES: idx_bytes(values, code, dtype)})
    write(tmp_path, {TEST_IMAGES: idx_bytes(values[:10], code, dtype)})
    data = load_idx(tmp_path)
    assert (data.x_train[..., 0] == values).all()
    assert data.x_train.dtype == np.float32


def test_color_images_keep_their_channels(tmp_path: Path):
    images = np.zeros((20, 4, 5, 3))
    write(tmp_path, streams() | {TRAIN_IMAGES: idx_bytes(images), TEST_IMAGES: idx_bytes(images[:10])})
    assert load_idx(tmp_path).input_shape == (4, 5, 3)


IMAGES_SIZE = 16 + 20 * 28 * 28
BAD_IDX = {
    "truncated": (
        TRAIN_IMAGES,
        lambda content: content[:-5],
        rf"is truncated: it has {IMAGES_SIZE - 5} bytes decompressed, expected {IMAGES_SIZE} for uint8",
    ),
    "too long": (
        TEST_LABELS,
        lambda content: content + b"\0\0",
        "is too long: it has 20 bytes decompressed, expected 18",
    ),
    "wrong magic": (
        TRAIN_LABELS,
        lambda content: b"\x89PNG" + content,
        "is not an IDX file: it starts with 89 50 4e 47",
    ),
    "unknown type": (TRAIN_LABELS, lambda content: b"\0\0\x0a\x01" + content[4:], "starts with 00 00 0a 01"),
    "empty": (TRAIN_LABELS, lambda content: b"", "is not an IDX file: it starts with nothing"),
    "half a header": (
        TRAIN_IMAGES,
        lambda content: content[:10],
        "has 10 bytes decompressed, expected a header of 16",
    ),
    "cut gzip": (TEST_IMAGES, lambda content: gzip.compress(content)[:-20], "is a damaged gzip file of"),
    "broken gzip": (TEST_IMAGES, lambda content: b"\x1f\x8b" + content, "is a damaged gzip file of"),
    "fewer labels than images": (
        TRAIN_LABELS,
        lambda content: idx_bytes(np.zeros(19)),
        "holds 20 images and .* 19 labels",
    ),
    "images where labels belong": (
        TRAIN_LABELS,
        lambda content: idx_bytes(np.zeros((20, 2, 2))),
        r"holds an array of shape \(20, 2, 2\), expected one axis",
    ),
    "labels where images belong": (
        TRAIN_IMAGES,
        lambda content: idx_bytes(np.zeros(20)),
        r"holds an array of shape \(20,\), expected two axes or more",
    ),
    "float labels": (
        TRAIN_LABELS,
        lambda content: idx_bytes(np.zeros(20), 0x0D, ">f4"),
        "holds float32, expected integer labels",
    ),
}


@pytest.mark.parametrize(("name", "damage", "message"), BAD_IDX.values(), ids=BAD_IDX)
def test_a_damaged_idx_file_is_refused_by_name(tmp_path: Path, name: str, damage: Any, message: str):
    contents = streams()
    write(tmp_path, contents | {name: damage(contents[name])})
    with pytest.raises(DataError, match=message) as caught:
        load_idx(tmp_path)
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("value", [np.nan, 1e300], ids=["nan", "beyond float32"])
def test_numbers_in_idx_files_that_are_not_finite_are_refused_by_row(tmp_path: Path, value: float):
    images = np.zeros((20, 28, 28))
    images[6, 1, 2] = value
    write(tmp_path, streams() | {TRAIN_IMAGES: idx_bytes(images, 0x0E, ">f8")})
    with pytest.raises(DataError, match=r"x_train of idx holds (nan|inf) in row 6 at \(1, 2, 0\)"):
        load_idx(tmp_path)


def labelled_idx(folder: Path, train: np.ndarray, test: np.ndarray) -> Path:
    """A folder of IDX files with these labels."""
    contents = {TRAIN_LABELS: idx_bytes(train), TEST_LABELS: idx_bytes(test)}
    images = {name: idx_bytes(np.zeros((len(y), 2, 2))) for name, y in ((TRAIN_IMAGES, train), (TEST_IMAGES, test))}
    return write(folder, contents | images)


def test_idx_labels_that_count_from_one_get_no_empty_class(tmp_path: Path):
    folder = labelled_idx(tmp_path, np.arange(20) % 3 + 1, np.arange(6) % 3 + 1)
    with pytest.raises(
        DataError, match=f"{TRAIN_LABELS} run from 1 to 3, expected classes that count from 0"
    ) as caught:
        load_idx(folder)
    assert "--set data.first=1" in caught.value.hint
    data = build("idx", IdxConfig(path=str(folder), first=1))
    assert data.classes == ("1", "2", "3") and data.y_train[:4].tolist() == [0, 1, 2, 0]
    with pytest.warns(UserWarning, match=f"No training example of .*{TRAIN_LABELS} has label 0: the model"):
        assert build("idx", IdxConfig(path=str(folder), first=0)).n_classes == 4


def test_missing_idx_files_are_listed_with_what_is_there(tmp_path: Path):
    contents = streams()
    del contents[TRAIN_LABELS], contents[TEST_IMAGES]
    with pytest.raises(DataError, match=f"lacks {TRAIN_LABELS}, {TEST_IMAGES} .*holds {TEST_LABELS}, {TRAIN_IMAGES}"):
        load_idx(write(tmp_path, contents))


def test_the_folder_below_that_holds_the_files_is_suggested(tmp_path: Path):
    raw = write(tmp_path / "raw", streams())
    with pytest.raises(DataError) as caught:
        load_idx(tmp_path)
    assert caught.value.hint == f"All four files are in {raw}: give that folder."


def test_an_empty_folder_and_a_crowded_one_are_described_shortly(tmp_path: Path):
    with pytest.raises(DataError, match="it holds nothing"):
        load_idx(tmp_path)
    write(tmp_path, {f"picture{i:02}": b"" for i in range(30)})
    with pytest.raises(DataError, match="picture11 and 18 more"):
        load_idx(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist, expected a folder"):
        load_idx(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, expected a folder"):
        load_idx(tmp_path / "file")


# Fashion-MNIST, with a small stand-in for the real files


@pytest.fixture
def no_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Fashion-MNIST, whose published files are the stand-ins."""
    monkeypatch.delenv("NEURAI_DATA", raising=False)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion, "_cache", lambda: tmp_path / "cache")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in streams().items()}
    monkeypatch.setattr(fashion, "SHA256", hashes)


def load_fashion(**settings: Any) -> Dataset:
    return build("fashion_mnist", FashionMnistConfig(**settings))


@pytest.mark.parametrize("place", [".", "fashion-mnist"])
@pytest.mark.usefixtures("no_fashion")
def test_fashion_mnist_is_found_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    write(tmp_path / "data" / place, streams(), ".gz", compress=True)
    monkeypatch.setenv("NEURAI_DATA", str(tmp_path / "data"))
    data = load_fashion()
    assert data.x_train.shape == (20, 28, 28, 1)
    assert data.x_train.max() == 1.0
    assert data.classes == FASHION_CLASSES
    assert fashion.locate() == tmp_path / "data" / place


@pytest.mark.usefixtures("no_fashion")
def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path: Path):
    write(tmp_path / "debian", streams(), ".gz", compress=True)
    assert load_fashion(download=False).n_classes == 10


@pytest.mark.usefixtures("no_fashion")
def test_a_fashion_mnist_file_with_other_content_is_refused_by_name(tmp_path: Path):
    folder = write(tmp_path / "debian", streams())
    content = bytearray((folder / TEST_IMAGES).read_bytes())
    content[1000] ^= 1
    (folder / TEST_IMAGES).write_bytes(content)
    with pytest.raises(DataError, match=rf"debian/{TEST_IMAGES} is not the published file: the SHA-256"):
        load_fashion()


def assert_says_what_to_do(error: DataError | MissingExtra) -> None:
    for words in (*FILES, "NEURAI_DATA", "dataset-fashion-mnist"):
        assert words in error.hint


@pytest.mark.usefixtures("no_fashion")
def test_without_download_the_error_says_which_files_to_put_where(tmp_path: Path):
    assert fashion.locate() is None
    with pytest.raises(
        DataError, match=r"not found and download=False; looked in .*\$NEURAI_DATA is not set"
    ) as caught:
        load_fashion(download=False)
    assert str(tmp_path / "debian") in caught.value.message
    assert_says_what_to_do(caught.value)


@pytest.mark.usefixtures("no_fashion")
def test_a_folder_with_some_of_the_files_is_named_with_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    contents = streams()
    del contents[TEST_LABELS]
    monkeypatch.setenv("NEURAI_DATA", str(write(tmp_path / "mine", contents)))
    with pytest.raises(DataError, match=rf"mine \(lacks {TEST_LABELS}\)"):
        load_fashion(download=False)


@pytest.mark.usefixtures("no_fashion")
def test_without_pooch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fashion, "_cache", lambda: None)
    with pytest.raises(MissingExtra, match="needs pooch") as caught:
        load_fashion()
    assert "neurai[download]" in caught.value.hint
    assert_says_what_to_do(caught.value)


def test_the_cache_is_unknown_without_pooch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert fashion._cache() is None


class Server:
    """What the network answers by file name, and what was asked of it."""

    def __init__(self) -> None:
        self.answers = {f"{name}.gz": gzip.compress(content) for name, content in streams().items()}
        self.asked: list[str] = []

    def downloader(self, *, timeout: float) -> Any:
        assert timeout > 0
        return self.download

    def download(self, url: str, output_file: str, _: Any) -> None:
        name = url.rsplit("/", 1)[-1]
        self.asked.append(name)
        if name not in self.answers:
            raise OSError("no route to host")
        Path(output_file).write_bytes(self.answers[name])


@pytest.fixture
def server(no_fashion: None, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The real pooch in front of a server that holds the stand-ins."""
    pooch = pytest.importorskip("pooch")
    stand_in = Server()
    monkeypatch.setattr(pooch, "HTTPDownloader", stand_in.downloader)
    return stand_in


def test_fashion_mnist_is_downloaded_once_and_then_kept(server: Server, tmp_path: Path):
    first = load_fashion()
    assert server.asked == [f"{name}.gz" for name in FILES]
    assert load_fashion(download=False).sha256 == first.sha256
    assert len(server.asked) == 4
    assert fashion.locate() == tmp_path / "cache"


def test_an_interrupted_download_goes_on_with_the_missing_files(server: Server):
    complete = dict(server.answers)
    del server.answers[f"{TEST_LABELS}.gz"]
    with pytest.raises(DataError, match="no route to host"):
        load_fashion()
    server.answers = complete
    load_fashion()
    assert server.asked == [f"{name}.gz" for name in (*FILES, TEST_LABELS)]


def test_offline_the_error_says_which_files_to_put_where(server: Server):
    server.answers = {}
    with pytest.raises(DataError, match=r"downloading https://.*train-images.*failed: no route to host") as caught:
        load_fashion()
    assert_says_what_to_do(caught.value)


@pytest.mark.parametrize("answer", [gzip.compress(b"other"), b"<html>log in</html>"], ids=["other file", "web page"])
def test_a_download_with_wrong_content_is_not_kept(server: Server, tmp_path: Path, answer: bytes):
    server.answers[f"{TRAIN_LABELS}.gz"] = answer
    with pytest.raises(DataError, match=rf"downloading .*{TRAIN_LABELS}\.gz failed"):
        load_fashion()
    assert not (tmp_path / "cache" / TRAIN_LABELS).exists()


# npz


def npz_arrays(**changed: Any) -> dict[str, Any]:
    x = np.arange(90.0).reshape(30, 3)
    y = np.arange(30) % 4
    return {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]} | changed


def load_npz(path: Path) -> Dataset:
    return build("npz", NpzConfig(path=str(path)))


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_inputs_are_taken_as_they_are(tmp_path: Path):
    data = load_npz(save(tmp_path / "d.npz", npz_arrays()))
    assert (data.x_train == npz_arrays()["x_train"]).all()
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int32
    assert data.classes == ("0", "1", "2", "3")


def test_npz_bytes_are_not_scaled(tmp_path: Path):
    pixels = np.full((20, 2), 255, np.uint8)
    data = load_npz(save(tmp_path / "d.npz", npz_arrays(x_train=pixels, x_test=pixels[:10])))
    assert (data.x_train == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_npz_labels_that_count_from_one_get_no_empty_class(tmp_path: Path, dtype: Any):
    y = (np.arange(30) % 4 + 1).astype(dtype)
    path = save(tmp_path / "d.npz", npz_arrays(y_train=y[:20], y_test=y[20:]))
    with pytest.raises(DataError, match=r"d\.npz run from 1 to 4, expected classes that count from 0"):
        load_npz(path)
    data = build("npz", NpzConfig(path=str(path), first=1))
    assert data.classes == ("1", "2", "3", "4") and data.y_train[:5].tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(DataError, match="run from 1 to 4, expected 2 or more"):
        build("npz", NpzConfig(path=str(path), first=2))


def test_a_gap_in_the_labels_is_reported(tmp_path: Path):
    y = np.arange(30) % 2 * 2
    with pytest.warns(UserWarning, match=r"No training example of .*d\.npz has label 1: the model"):
        data = load_npz(save(tmp_path / "d.npz", npz_arrays(y_train=y[:20], y_test=y[20:])))
    assert data.n_classes == 3


def test_npz_floating_point_targets_are_those_of_a_regression(tmp_path: Path):
    targets = np.linspace(0, 1, 30)
    data = load_npz(save(tmp_path / "d.npz", npz_arrays(y_train=targets[:20], y_test=targets[20:])))
    assert data.classes is None
    assert data.y_train.dtype == np.float32


BAD_NPZ = {
    "missing array": ({"y_test": None}, "d.npz lacks y_test; it holds x_train, y_train, x_test"),
    "objects": ({"x_train": np.array([{}] * 20)}, "x_train in .* is not a plain array"),
    "text": (
        {"x_train": np.full((20, 3), "a")},
        "x_train in .* has dtype <U1, expected floating point or int",
    ),
    "complex": ({"x_test": np.zeros((10, 3), complex)}, "x_test in .* has dtype complex128"),
    "text labels": ({"y_train": np.full(20, "cat")}, "y_train and y_test in .* have dtypes <U3 and int64"),
    "labels of two kinds": (
        {"y_test": np.zeros(10)},
        "dtypes int64 and float64, expected integer labels in both",
    ),
    "nan": ({"x_train": np.full((20, 3), np.nan)}, r"x_train of npz holds nan in row 0 at \(0,\)"),
    "beyond float32": ({"x_test": np.full((10, 3), 1e300)}, "x_test of npz holds inf in row 0"),
    "negative label": ({"y_train": np.full(20, -1)}, "y_train of npz holds label -1 in row 0"),
    "identifiers as labels": ({"y_train": np.arange(20) + 10**12}, "only 30 rows, expected the numbers 0, 1"),
    "different lengths": (
        {"y_train": np.zeros(19, int)},
        "x_train of npz has 20 rows and y_train of npz has 19",
    ),
    "empty": ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, "x_train of npz is empty"),
    "other features": ({"x_test": np.zeros((10, 4))}, r"shape \(3,\) in x_train and \(4,\) in x_test"),
}


@pytest.mark.parametrize(("changed", "message"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_a_bad_npz_file_is_refused(tmp_path: Path, changed: dict[str, Any], message: str):
    arrays = {name: array for name, array in npz_arrays(**changed).items() if array is not None}
    with pytest.raises(DataError, match=message) as caught:
        load_npz(save(tmp_path / "d.npz", arrays))
    assert caught.value.hint


def test_an_npz_file_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        load_npz(tmp_path / "none.npz")
    with pytest.raises(DataError, match="Is a directory"):
        load_npz(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"], ids=["empty", "text", "broken zip"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz is not an \.npz archive"):
        load_npz(tmp_path / "d.npz")


def test_a_single_array_is_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="holds one bare array"):
        load_npz(tmp_path / "x.npy")


def test_a_flipped_bit_in_an_npz_file_is_noticed(tmp_path: Path):
    path = save(tmp_path / "d.npz", npz_arrays())
    content = bytearray(path.read_bytes())
    content[300] ^= 1  # within the values of x_train
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x_train in .* is damaged: Bad CRC-32"):
        load_npz(path)


# text


@pytest.fixture(scope="module")
def text() -> Dataset:
    return build("text", TextConfig())


def test_sentences_are_what_their_spec_says(text: Dataset):
    spec = PLUGINS["text"].neurai_spec()
    assert text.x_train.shape == text.y_train.shape == (spec.train, *spec.shape)
    assert text.x_test.shape == text.y_test.shape == (spec.test, *spec.shape)
    assert text.x_train.dtype == text.y_train.dtype == spec.dtype
    assert text.classes == spec.classes


def test_targets_are_the_characters_that_follow(text: Dataset):
    assert (text.x_train[:, 1:] == text.y_train[:, :-1]).all()


def test_sentences_are_english_and_verbs_agree_with_their_subjects():
    adjective, thing = "(?:big |small |red |quick |young )?", "(?:ball|tree|box|house|door)"
    one, many = "(?:dog|cat|bird|child|farmer)", "(?:dogs|cats|birds|children|farmers)"
    sees, see = "(?:sees|finds|watches|follows|likes)", "(?:see|find|watch|follow|like)"
    subject = f"(?:(?:the|a) {adjective}{one} {sees}|the {adjective}{many} {see})"
    sentence = re.compile(f"{subject} (?:the|a) {adjective}{thing}")
    data = build("text", TextConfig(length=300, train=20, test=1))
    for row in data.y_train:
        *whole, _ = sentences.read(row).split(". ")
        assert len(whole) > 5 and all(map(sentence.fullmatch, whole))


def test_settings_decide_the_sentences(text: Dataset):
    again, other = (build("text", TextConfig(seed=seed, train=50)) for seed in (0, 1))
    assert (again.x_train == text.x_train[:50]).all() and again.sha256 != other.sha256
    assert (again.y_test == text.y_test).all()  # however many there are to train on


def test_the_floor_of_the_loss_is_the_cross_entropy_of_the_distribution():
    # Enumerated: every first sentence with its probability, every prefix with the sum of those that begin with it.
    mass: dict[str, float] = {}
    ends: list[tuple[str, str, float]] = [("sentence", "", 1.0)]
    length = 12  # shorter than any sentence
    while ends:
        state, written, chance = ends.pop()
        row = sentences.GRAMMAR[state]
        for word, following in row.items():
            more = written + word
            if len(more) < length:
                ends.append((following, more, chance / len(row)))
                continue
            for end in range(length + 1):
                mass[more[:end]] = mass.get(more[:end], 0.0) + chance / len(row)
    config = TextConfig(length=length, test=200)
    texts = [sentences.read(row) for row in build("text", config).y_test]
    surprise = [math.log(mass[text[:t]] / mass[text[: t + 1]]) for text in texts for t in range(length)]
    assert sentences.floor(config) == pytest.approx(sum(surprise) / len(surprise), rel=1e-9)
    assert f"{sentences.floor():.4f} nats" in PLUGINS["text"].neurai_spec().source

"""The data sets in time: drawn as by their authors' code, coded as they say, and strict with files."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from neurai_core.errors import DataError, MissingExtra
from neurai_core.specs import DatasetSpec
from neurai_datasets import spiking_specs
from neurai_datasets.randman_spikes import embed, manifold
from neurai_datasets.spiking_specs import RandmanConfig, SpikeFilesConfig, SpikingDigitsConfig, YinYangConfig
from neurai_datasets.uci_digits import build as digits
from neurai_datasets.yin_yang_points import points

NAMES = ("spiking_digits", "yin_yang", "randman", "spike_files", "shd", "ssc")
PLUGINS = {name: getattr(spiking_specs, name) for name in NAMES}


def build(name, **settings):
    plugin = PLUGINS[name]
    return plugin.neurai_build(plugin.neurai_spec().config(**settings), {})


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_the_spec_survives_json(plugin):
    spec = plugin.neurai_spec()
    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.split and spec.source


def test_describing_them_imports_neither_numpy_nor_jax():
    code = (
        "import sys, neurai_datasets.spiking_specs as s; s.randman.neurai_spec();"
        "print(*{'numpy', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["spiking_digits", "yin_yang", "randman"])
def test_they_are_what_their_spec_says_and_repeat(name):
    spec, data = PLUGINS[name].neurai_spec(), build(name)
    assert data.x_train.shape == (spec.train, *spec.shape) and data.x_test.shape == (spec.test, *spec.shape)
    assert data.x_train.dtype == spec.dtype and data.y_train.dtype == np.int32
    assert data.classes == spec.classes
    assert set(data.y_train) == set(data.y_test) == set(range(len(spec.classes)))
    assert build(name).sha256 == data.sha256


# digits


def test_a_pixel_spikes_once_the_earlier_the_brighter():
    data, images = build("spiking_digits", steps=16, threshold=0.1), digits(SpikingDigitsConfig())
    pixels = images.x_train.reshape(-1, 64)
    np.testing.assert_array_equal(data.x_train.sum(axis=1), pixels >= 0.1)
    times = data.x_train.argmax(axis=1)
    assert (times[pixels == 1] == 0).all()
    for row in range(0, 100, 10):
        seen = pixels[row] >= 0.1
        assert (np.diff(times[row][seen][np.argsort(pixels[row][seen])]) <= 0).all()


def test_the_latency_code_is_that_of_the_encoder():
    from neurai_core.models.spiking import Latency

    data, images = build("spiking_digits", steps=16, threshold=0.1), digits(SpikingDigitsConfig())
    coded = Latency(16, 0.1)(images.x_test.reshape(-1, 64))
    np.testing.assert_array_equal(coded, data.x_test)


def test_a_rate_code_has_the_brightness_as_its_rate():
    data, images = build("spiking_digits", coding="rate", steps=400), digits(SpikingDigitsConfig())
    rates = data.x_test.mean(axis=1)
    np.testing.assert_allclose(rates, images.x_test.reshape(-1, 64), atol=0.13)  # 5 standard deviations of 400 steps
    assert build("spiking_digits", coding="rate", seed=1).sha256 != build("spiking_digits", coding="rate").sha256


# yin-yang


@pytest.mark.parametrize(
    ("n", "seed", "samples", "labels"),
    [
        # SHA-256 of the arrays that the authors publish as train_*.npy and test_*.npy (commit e6eef96).
        (
            5000,
            42,
            "f5a4054d56f2a058f8250fba7ff9720458e1625db7af78a295e45701745b2228",
            "534d12acda4f9dbc7208a99d3646115a4aa7d74ca31d6d23f822079a568559b7",
        ),
        (
            1000,
            40,
            "7bab3ed668ed4992679cff6339fe21bfe7d0c921ddc6187eaa3bc6ef34b888d7",
            "daa0f8f4e3b37b1ddec2afee22f09afb768f0e575f3f568e7469f1ebc6af73c1",
        ),
    ],
)
def test_yin_yang_is_the_published_one_to_the_bit(n, seed, samples, labels):
    x, y = points(n, seed)
    assert hashlib.sha256(np.ascontiguousarray(x).astype("<f8").tobytes()).hexdigest() == samples
    assert hashlib.sha256(y.astype("<i8").tobytes()).hexdigest() == labels


def test_yin_yang_as_spikes_has_one_spike_of_each_unit_later_for_larger_numbers():
    numbers, data = build("yin_yang"), build("yin_yang", steps=31)
    assert data.x_train.shape == (5000, 31, 5)
    assert (data.x_train.sum(axis=1) == 1).all() and (data.x_train[:, 0, 4] == 1).all()
    times = data.x_train.argmax(axis=1)[:, :4]
    np.testing.assert_allclose(times / 30, numbers.x_train, atol=0.5 / 30 + 1e-6)


# randman


def test_a_manifold_is_the_authors_numpy_one():
    # numpy_randman.py of the authors (commit d3e22f5) after np.random.seed(3): 3 units, dimension 2, alpha 1.5.
    rng = np.random.RandomState(3)
    theta = manifold(rng, 3, 2, 1.5)
    assert theta.shape == (3, 2, 3, 100)
    x = rng.rand(4, 2)
    expected = [
        [-0.014093834401160231, 0.02002530690500639, -0.03733064925296112],
        [-0.004245351081163006, 0.018669736281599528, -0.03391703574745547],
        [0.05225468359842653, -0.00047890660582655675, -0.03411340718913909],
        [-0.006181399328954837, 0.04597463088088224, -0.005313264811681494],
    ]
    np.testing.assert_allclose(embed(x, theta, 1.5), expected, rtol=1e-10)


def test_the_two_published_spectra_differ():
    rng = np.random.RandomState(0)
    theta, x = manifold(rng, 2, 1, 2.0), rng.rand(5, 1)
    i = np.arange(theta.shape[-1])
    waves = np.sin(2 * np.pi * (i * x[:, :1] * theta[0, 0, 1] + theta[0, 0, 2]))
    by_hand = (waves * theta[0, 0, 0] / ((i + 1.0) ** 2 + 1)).sum(axis=1)
    np.testing.assert_allclose(embed(x, theta, 2.0, "torch")[:, 0], by_hand, rtol=1e-12)
    assert not np.allclose(embed(x, theta, 2.0), embed(x, theta, 2.0, "torch"))


@pytest.mark.parametrize(("smoothness", "count"), [(2.0, 32), (1.5, 100), (1.0, 1000), (0.5, 1000)])
def test_the_number_of_waves_follows_the_precision(smoothness, count):
    assert manifold(np.random.RandomState(0), 1, 1, smoothness).shape[-1] == count


def test_every_unit_fires_its_number_of_spikes_within_the_fraction():
    data = build("randman", classes=3, units=7, steps=40, samples=50, spikes=2, fraction=0.5)
    assert data.x_train.shape == (120, 40, 7) and data.x_test.shape == (30, 40, 7)
    assert (data.x_train.sum(axis=1) == 2).all()
    assert (data.x_train[:, 20:] == 0).all() and data.classes == ("0", "1", "2")


# spike files


def write(folder, part, name, i, times, units):
    target = folder / part / name
    target.mkdir(parents=True, exist_ok=True)
    np.savez(target / f"{i}.npz", times=np.asarray(times), units=np.asarray(units))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "train", "left", 0, [0.0, 0.26, 0.99], [0, 2, 0])
    write(tmp_path, "train", "right", 0, [0.5, 0.51], [1, 1])
    write(tmp_path, "test", "left", 0, np.zeros(0), np.zeros(0, int))
    write(tmp_path, "test", "right", 0, [0.75], [2])
    return tmp_path


def test_spike_files_become_counts_per_step(folder):
    data = build("spike_files", path=str(folder), steps=4)
    assert data.classes == ("left", "right") and data.x_train.shape == (2, 4, 3)
    assert data.x_train[0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert data.x_train[1].tolist() == [[0, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert data.x_test.sum() == 1 and data.y_test.tolist() == [0, 1]
    assert build("spike_files", path=str(folder), steps=4, units=9, window=2.0).x_train.shape == (2, 4, 9)


@pytest.mark.parametrize(
    ("times", "units", "words"),
    [
        ([0.5, 1.0], [0, 0], r"spike at time 1.0 \(spike 1\), expected in \[0, 1.0\)"),
        ([-0.1], [0], "spike at time -0.1"),
        ([np.nan], [0], "spike at time nan"),
        ([0.1], [-1], r"spike at unit -1 \(spike 0\), expected from 0 up"),
        ([0.1], [3], r"unit 3 .* expected in 0..2, as in the training files"),
        ([0.1], [0.5], "expected numbers and integers"),
        ([0.1, 0.2], [0], r"times \(2,\) and units \(1,\)"),
    ],
)
def test_spikes_outside_the_window_and_units_that_are_none_are_named(folder, times, units, words):
    write(folder, "test", "right", 1, times, units)
    with pytest.raises(DataError, match=words):
        build("spike_files", path=str(folder))


def test_more_units_than_the_setting_allows_are_named(folder):
    with pytest.raises(DataError, match=r"unit 2 \(spike 1\), expected in 0..1"):
        build("spike_files", path=str(folder), units=2)


@pytest.mark.parametrize("steps", [100, 1000, 100_000])
def test_times_in_16_bits_are_binned_as_the_numbers_they_are(folder, steps):
    times = np.linspace(0, 0.999, 40).astype(np.float16)
    write(folder, "train", "left", 0, times, np.zeros(40, np.uint16))
    x = build("spike_files", path=str(folder), steps=steps, units=3).x_train[0, :, 0]
    exact = np.bincount([int(float(time) * steps) for time in times], minlength=steps)
    np.testing.assert_array_equal(x, exact)


def test_a_time_that_16_bits_round_up_to_the_window_is_outside_it(folder):
    write(folder, "train", "left", 0, np.array([0.5, 0.99999], np.float16), [0, 0])
    with pytest.raises(DataError, match=r"0\.npz has a spike at time 1.0 \(spike 1\), expected in \[0, 1.0\)"):
        build("spike_files", path=str(folder), steps=100_000)


# the Heidelberg data sets


def hdf5(path, examples, labels, keys=None):
    """A file in the published format: ragged float16 times and uint16 units, and labels."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, dtype, column in (("times", np.float16, 0), ("units", np.uint16, 1)):
            ragged = file.create_dataset(f"spikes/{name}", (len(examples),), h5py.vlen_dtype(dtype))
            for i, example in enumerate(examples):
                ragged[i] = np.asarray(example[column], dtype)
        file["labels"] = np.asarray(labels, np.uint16)
        if keys:
            file["extra/keys"] = [key.encode() for key in keys]


ONE = ([0.0, 0.7, 0.7, 1.3], [0, 699, 699, 5])  # in 16 bits 0.7 is 0.7002 and 1.3 is 1.2998


@pytest.fixture
def heidelberg(tmp_path):
    hdf5(tmp_path / "shd_train.h5", [ONE, ([], [])], [0, 19])
    hdf5(tmp_path / "shd_test.h5", [ONE], [3])
    return tmp_path


def test_the_spiking_heidelberg_digits_become_counts_per_step(heidelberg):
    data = build("shd", path=str(heidelberg), steps=14)
    assert data.x_train.shape == (2, 14, 700) and data.x_train.dtype == np.float32
    assert {(t, u): n for (t, u), n in np.ndenumerate(data.x_train[0]) if n} == {(0, 0): 1, (7, 699): 2, (12, 5): 1}
    assert data.x_train[1].sum() == 0 and data.y_train.tolist() == [0, 19] and data.y_test.tolist() == [3]
    assert len(data.classes) == 20 and data.classes[3] == "three" and data.license == "CC-BY-4.0"
    merged = build("shd", path=str(heidelberg), steps=14, merge=5)
    np.testing.assert_array_equal(merged.x_train, data.x_train.reshape(2, 14, 140, 5).sum(axis=-1))


def test_the_spiking_speech_commands_have_a_part_for_validation(tmp_path):
    keys = [f"word {i}" for i in range(35)]
    for part, label in (("train", 34), ("valid", 1), ("test", 2)):
        hdf5(tmp_path / f"ssc_{part}.h5", [ONE], [label], keys)
    data = build("ssc", path=str(tmp_path))
    assert data.x_train.shape == (1, 100, 140) and data.classes == tuple(keys) and data.y_test.tolist() == [2]
    assert build("ssc", path=str(tmp_path), part="valid").y_test.tolist() == [1]


def test_the_spiking_heidelberg_digits_are_found_by_name(heidelberg):
    import neurai_core as neurai

    data = neurai.dataset("shd", path=str(heidelberg), steps=5)
    assert data.origin.name == "shd" and data.input_shape == (5, 700)


@pytest.mark.parametrize(
    ("example", "settings", "words"),
    [
        (
            ([1.4], [0]),
            {},
            r"Example 1 of .*shd_test\.h5 has a spike at time 1.400390625 \(spike 0\), expected in \[0, 1.4",
        ),
        (([0.1, 0.9], [0, 0]), {"window": 0.8}, r"time 0.89990234375 \(spike 1\), expected in \[0, 0.8\)"),
        (([np.nan], [0]), {}, "spike at time nan"),
        (([0.1], [700]), {}, r"spike at unit 700 \(spike 0\), expected in 0..699"),
        (([0.1, 0.2], [7]), {}, r"times \(2,\) and units \(1,\)"),
    ],
)
def test_spikes_outside_the_window_and_units_beyond_the_cochlea_are_named(heidelberg, example, settings, words):
    hdf5(heidelberg / "shd_test.h5", [([0.1], [1]), example], [0, 1])
    hdf5(heidelberg / "shd_train.h5", [([0.1], [1])], [0])
    with pytest.raises(DataError, match=words):
        build("shd", path=str(heidelberg), **settings)


def test_heidelberg_files_that_are_missing_or_damaged_are_named(heidelberg):
    h5py = pytest.importorskip("h5py")
    test = heidelberg / "shd_test.h5"
    whole = test.read_bytes()
    for content, words in (
        (b"", "is not an HDF5 file"),
        (whole[:300], "is not an HDF5 file"),
        (b"spikes", "is not an HDF5 file"),
    ):
        test.write_bytes(content)
        with pytest.raises(DataError, match=rf"shd_test\.h5 {words}"):
            build("shd", path=str(heidelberg))
    with h5py.File(test, "w") as file:
        file["labels"] = [0]
    with pytest.raises(DataError, match=r"shd_test\.h5 lacks spikes/times, spikes/units or labels"):
        build("shd", path=str(heidelberg))
    hdf5(test, [ONE], [0, 1])
    with pytest.raises(DataError, match="1 examples of times, 1 of units and 2 labels"):
        build("shd", path=str(heidelberg))
    hdf5(test, [ONE], [20])
    with pytest.raises(DataError, match=r"label 20 in row 0, outside the classes 0\.\.19"):
        build("shd", path=str(heidelberg))
    test.rename(heidelberg / "shd_test.h5.gz")
    with pytest.raises(DataError, match=r"shd_test\.h5 is not there; shd_test\.h5\.gz is there, still packed"):
        build("shd", path=str(heidelberg))


def test_without_h5py_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"neurai\[hdf5\]"):
        build("shd", path=str(tmp_path))


def test_a_class_without_examples_to_train_on_is_named(folder):
    (folder / "train" / ".hidden").mkdir()
    with pytest.raises(DataError, match=r"\.hidden holds no spike files(.|\n)*remove the folder"):
        build("spike_files", path=str(folder))


@pytest.mark.parametrize(("at", "value"), [(8, 0x20), (10, 99), (6, 200)], ids=["flag", "method", "version"])
def test_a_flipped_byte_in_the_directory_of_a_spike_file_is_damage(folder, at, value):
    path = next(folder.glob("train/*/*.npz"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + at] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"\.npz is not a spike file"):
        build("spike_files", path=str(folder))


def test_files_and_folders_that_are_missing_or_damaged_are_named(folder):
    with pytest.raises(DataError, match="is not a folder"):
        build("spike_files", path=str(folder / "nowhere"))
    with pytest.raises(DataError, match="holds no folder"):
        build("spike_files", path=str(folder / "test"))
    write(folder, "test", "up", 0, [0.1], [0])
    with pytest.raises(DataError, match="has the class 'up', which is missing from train"):
        build("spike_files", path=str(folder))
    (folder / "test" / "up" / "0.npz").rename(folder / "test" / "up" / "0.txt")
    (folder / "test" / "up").rename(folder / "elsewhere")
    (folder / "train" / "left" / "1.npz").write_bytes(b"spikes")
    with pytest.raises(DataError, match=r"1\.npz is not a spike file"):
        build("spike_files", path=str(folder))
    np.savez(folder / "train" / "left" / "1.npz", times=[0.1])
    with pytest.raises(DataError, match="lacks an array: units"):
        build("spike_files", path=str(folder))


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (SpikingDigitsConfig, {"steps": 0}),
        (YinYangConfig, {"steps": 0}),
        (RandmanConfig, {"steps": -5}),
        (SpikeFilesConfig, {"path": "x", "steps": 0}),
        (SpikeFilesConfig, {"path": "x", "window": 0.0}),
    ],
)
def test_fewer_than_one_step_is_refused(config, settings):
    with pytest.raises(ValidationError, match=r"steps|window"):
        config(**settings)

"""The spiking Heidelberg data sets, SHD and SSC, from the published HDF5 files. Cramer et al. 2022.

```
PATH/shd_train.h5
PATH/shd_test.h5       spikes/times[i]: float16, seconds     spikes/units[i]: integers 0..699      labels[i]
                       extra/keys: names of the labels
```
SSC also has a file `ssc_valid.h5`. Units are the channels of an artificial cochlea.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_core.errors import DataError, missing_extra
from neurai_datasets.four_arrays import as_labels
from neurai_datasets.spike_files import count_spikes, refuse_spikes, refuse_times
from neurai_datasets.spiking_specs import HEIDELBERG_UNITS, SHD_CLASSES, SHDConfig, SSCConfig

SSC_CLASSES = 35
HOW = "Download it from https://zenkelab.org/datasets and unpack it with gunzip."

Array = NDArray[Any]


def build_shd(config: SHDConfig, **context: Any) -> Dataset:
    """SHD: spike counts as float32 of shape (N, T, units).

    Raises:
        DataError: a file is missing or damaged, or spikes of an example lie outside the window.
        MissingExtra: h5py is not installed.
    """
    return _dataset("shd", "test", SHD_CLASSES, config)


def build_ssc(config: SSCConfig, **context: Any) -> Dataset:
    """SSC: the same, with 35 classes; its test examples are those of the test or of the validation file."""
    return _dataset("ssc", config.part, tuple(map(str, range(SSC_CLASSES))), config)


def _dataset(name: str, test: str, classes: tuple[str, ...], config: SHDConfig) -> Dataset:
    folder = Path(os.path.expanduser(config.path))
    x_train, y_train, keys = _part(folder / f"{name}_train.h5", config)
    x_test, y_test, _ = _part(folder / f"{name}_{test}.h5", config)
    known = keys if len(keys) == len(classes) else classes
    return check(Dataset(name, x_train, y_train, x_test, y_test, classes=known, license="CC-BY-4.0"))


def _part(path: Path, config: SHDConfig) -> tuple[Array, Array, tuple[str, ...]]:
    times, units, labels, keys = _read(path)
    if not len(times) == len(units) == len(labels):
        raise DataError(
            f"{path} has {len(times)} examples of times, {len(units)} of units and {len(labels)} labels, "
            "expected equal numbers.",
            HOW,
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path} has labels of {labels.dtype}, expected integers.", HOW)
    x = np.zeros((len(labels), config.steps, -(-HEIDELBERG_UNITS // config.merge)), np.float32)
    for i, (when, which) in enumerate(zip(times, units, strict=True)):
        when, which = np.asarray(when, np.float64), np.asarray(which, np.int64)
        _check_example(f"Example {i} of {path}", when, which, config)
        count_spikes(x[i], when, which // config.merge, config.window)
    return x, as_labels(labels), keys


def _check_example(where: str, times: Array, units: Array, config: SHDConfig) -> None:
    if times.ndim != 1 or times.shape != units.shape:
        raise DataError(f"{where} has times {times.shape} and units {units.shape}, expected two of shape (K,).", HOW)
    refuse_times(where, times, config.window)
    outside = (units < 0) | (units >= HEIDELBERG_UNITS)
    refuse_spikes(where, "unit", units, outside, f"in 0..{HEIDELBERG_UNITS - 1}")


def _read(path: Path) -> tuple[Array, Array, Array, tuple[str, ...]]:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise missing_extra("h5py", "neurai[hdf5]", f"Reading {path.name}") from error
    if not path.is_file():
        packed = path.with_name(f"{path.name}.gz")
        found = f"; {packed.name} is there, still packed" if packed.is_file() else ""
        raise DataError(f"{path} is not there{found}.", HOW)
    try:
        with h5py.File(path) as file:
            spikes, keys = file["spikes"], file.get("extra/keys", ())
            names = tuple(key.decode() if isinstance(key, bytes) else str(key) for key in keys)
            return spikes["times"][:], spikes["units"][:], file["labels"][:], names
    except KeyError as error:
        raise DataError(f"{path} lacks spikes/times, spikes/units or labels: {error.args[0]}.", HOW) from error
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not an HDF5 file of spikes: {error}.", HOW) from error

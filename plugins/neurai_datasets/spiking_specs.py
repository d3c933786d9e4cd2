"""Specs of the data sets in time, free of JAX; each implementation has its own file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, DatasetSpec

YIN_YANG_CLASSES = ("yin", "yang", "dot")
HEIDELBERG_UNITS = 700
SHD_CLASSES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
)


class SpikingDigitsConfig(Config):
    """Settings of the digits as spikes."""

    coding: Literal["latency", "rate"] = Field(
        "latency",
        description="latency: one spike per pixel, the earlier the brighter; rate: a spike at each step with the "
        "pixel's brightness as its probability",
    )
    steps: int = Field(50, ge=1, le=1_000_000, description="number of time steps")
    threshold: float = Field(0.05, ge=0, lt=1, description="latency: pixels darker than this, in [0, 1), never spike")
    seed: int = Field(0, ge=0, lt=2**32, description="rate: seed of the random spikes")

    def unused(self) -> dict[str, str]:
        """Settings of the other coding."""
        return {"threshold" if self.coding == "rate" else "seed": f"with coding {self.coding}"}


class YinYangConfig(Config):
    """Settings of the Yin-Yang data."""

    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="None: points of 4 numbers; a number of time steps: spikes of 5 units, one spike each, at a "
        "time proportional to the number, and a fifth at the first step",
    )
    train: int = Field(5000, ge=1, le=1_000_000, description="number of training examples")
    test: int = Field(1000, ge=1, le=1_000_000, description="number of test examples")
    train_seed: int = Field(42, ge=0, lt=2**32, description="seed of the training examples; 42 as published")
    test_seed: int = Field(
        40, ge=0, lt=2**32, description="seed of the test examples; 40 as published, 41 for validation"
    )
    small_radius: float = Field(0.1, gt=0, le=0.25, description="radius of the dots")


class RandmanConfig(Config):
    """Settings of the random manifolds."""

    classes: int = Field(10, ge=2, le=1_000_000, description="number of classes, one manifold each")
    units: int = Field(20, ge=1, le=1_000_000, description="number of units; the published example has 100")
    steps: int = Field(100, ge=1, le=1_000_000, description="number of time steps")
    dimension: int = Field(2, ge=1, le=16, description="dimension of the manifolds")
    smoothness: float = Field(
        2.0, gt=0, description="exponent of the power spectrum's decay; larger is smoother and easier"
    )
    spikes: int = Field(1, ge=1, le=1_000_000, description="spikes of each unit; each has a manifold of its own")
    samples: int = Field(
        1000, ge=5, le=1_000_000, description="examples of each class, of which one fifth are the test set"
    )
    fraction: float = Field(1.0, gt=0, le=1, description="fraction of the time steps that may contain spikes")
    spectrum: Literal["numpy", "torch"] = Field(
        "numpy",
        description="which of the two published spectra: numpy, 1/(i+1)^a; torch, 1/((i+1)^a + 1)",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the manifolds, the examples and their order")


class SpikeFilesConfig(Config):
    """Settings of a folder of spike files."""

    path: str = Field(min_length=1, description="folder with train/CLASS/*.npz and test/CLASS/*.npz")
    steps: int = Field(100, ge=1, le=1_000_000, description="number of time steps into which the window is cut")
    window: float = Field(1.0, gt=0, description="length of every example, in the time unit of the files")
    units: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="number of units; None takes the largest number in the training files plus 1",
    )


class SHDConfig(Config):
    """Settings of the Spiking Heidelberg Digits."""

    path: str = Field(min_length=1, description="folder with shd_train.h5 and shd_test.h5")
    steps: int = Field(100, ge=1, description="number of time steps into which the window is cut")
    window: float = Field(1.4, gt=0, description="length of every example, in seconds; the last spike is before 1.4 s")
    merge: int = Field(
        1, ge=1, le=HEIDELBERG_UNITS, description="number of neighboring units merged into one; 5 leaves 140 of 700"
    )


class SSCConfig(SHDConfig):
    """Settings of the Spiking Speech Commands."""

    path: str = Field(min_length=1, description="folder with ssc_train.h5, ssc_valid.h5 and ssc_test.h5")
    merge: int = Field(
        5,
        ge=1,
        le=HEIDELBERG_UNITS,
        description="number of neighboring units merged into one; 1 keeps all 700, which take 27 GB at 100 steps",
    )
    part: Literal["test", "valid"] = Field("test", description="the file that provides the test examples")


class TonicConfig(Config):
    """Settings of the data sets of tonic."""

    which: str = Field(min_length=1, description="data set as tonic calls it, such as NMNIST, DVSGesture or SHD")
    folder: str | None = Field(
        None,
        min_length=1,
        description="folder that holds tonic's folders; None is $NEURAI_DATA, or else ~/.cache/neurai",
    )
    steps: int = Field(50, ge=1, le=100_000, description="number of time steps into which an example is cut")
    window: float | None = Field(
        None,
        gt=0,
        description="microseconds that are cut, from 0 on, without later events; None cuts every example from its "
        "first to its last event",
    )
    download: bool = Field(True, description="let tonic download what it does not find")


spiking_digits = Plugin(
    DatasetSpec(
        name="spiking-digits",
        summary="the 1797 handwritten digits of 8x8 pixels as spikes, coded by latency or by rate",
        config=SpikingDigitsConfig,
        shape=(50, 64),
        classes=tuple("0123456789"),
        train=1437,
        test=360,
        split="as in the data set digits",
        license="CC-BY-4.0",
        attribution="E. Alpaydin and C. Kaynak (1998): Optical Recognition of Handwritten Digits, UCI "
        "Machine Learning Repository",
        source="the data set digits; time first, then the 64 pixels",
        references=cited(__name__, "alpaydin1998optical"),
    ),
    "neurai_datasets.spiking_digits:build",
)

yin_yang = Plugin(
    DatasetSpec(
        name="yin-yang",
        summary="points of a yin-yang symbol in three classes, as numbers or as spike times",
        config=YinYangConfig,
        shape=(4,),
        classes=YIN_YANG_CLASSES,
        train=5000,
        test=1000,
        split="drawn with different seeds, as published",
        source="drawn as by the authors' code, bit for bit, then float32; class 1 is the set that their code "
        "calls yin, although they name class 0 so",
        references=cited(__name__, "kriener2022yin"),
    ),
    "neurai_datasets.yin_yang_points:build",
)

randman = Plugin(
    DatasetSpec(
        name="randman",
        summary="smooth random manifolds as spike times: all information is in spike timing, none in spike counts",
        config=RandmanConfig,
        shape=(100, 20),
        classes=tuple("0123456789"),
        train=8000,
        test=2000,
        split="one fifth of all examples in random order is the test set",
        source="drawn as by the authors' code, in double precision; time first, then the units",
        references=cited(__name__, "zenke2021remarkable"),
    ),
    "neurai_datasets.randman_spikes:build",
)

spike_files = Plugin(
    DatasetSpec(
        name="spike-files",
        summary="a folder of spike files: one .npz per example with the arrays times and units",
        config=SpikeFilesConfig,
        split="as in the folder: train and test",
        source="the folder; a class is a folder's name; an entry of an example is the number of spikes of one unit in "
        "one step",
    ),
    "neurai_datasets.spike_files:build",
)

shd = Plugin(
    DatasetSpec(
        name="shd",
        summary="Spiking Heidelberg Digits: spoken digits, English and German, as spikes of 700 cochlear channels",
        config=SHDConfig,
        shape=(100, 700),
        classes=SHD_CLASSES,
        train=8156,
        test=2264,
        split="as published; two of the twelve speakers are in the test set only",
        license="CC-BY-4.0",
        attribution="B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke",
        source="the published HDF5 files in a folder; an entry of an example is the number of spikes of one unit "
        "in one step; an array of 2.9 GB",
        references=cited(__name__, "cramer2022heidelberg"),
        requires={"h5py": "neurai[hdf5]"},
    ),
    "neurai_datasets.heidelberg:build_shd",
)

ssc = Plugin(
    DatasetSpec(
        name="ssc",
        summary="Spiking Speech Commands: 35 spoken words as spikes of 700 cochlear channels",
        config=SSCConfig,
        shape=(100, 140),
        train=75466,
        test=20382,
        split="as published",
        license="CC-BY-4.0",
        attribution="B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke",
        source="the published HDF5 files in a folder, read as those of shd; the classes are named in the file",
        references=cited(__name__, "cramer2022heidelberg"),
        requires={"h5py": "neurai[hdf5]"},
    ),
    "neurai_datasets.heidelberg:build_ssc",
)

tonic = Plugin(
    DatasetSpec(
        name="tonic",
        summary="recordings of event cameras and other sensors, by their name in tonic, binned to time steps",
        config=TonicConfig,
        split="as tonic has it: train and test",
        source="files that tonic finds or downloads, whose rows are read when training needs them; an entry of an "
        "example is the number of events of one sensor element in one step, at most 255; elements are ordered by "
        "polarity, then y, then x. Examples are sorted by class and path",
        requires={"tonic": "neurai[tonic]"},
    ),
    "neurai_datasets.tonic_events:build",
)

"""Specs of the built-in data sets, free of JAX; each implementation has its own file.

No file here is named like a plugin, because importing a submodule binds its name in the package.
"""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, DatasetSpec

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CHARACTERS = " .abcdefghijklmnopqrstuvwxyz"  # characters of the data set text, by code
FIRST = "label of the first class, 1 for EMNIST's letters; None expects 0 and at least one example of it"


class FashionMnistConfig(Config):
    """Settings of Fashion-MNIST."""

    download: bool = Field(True, description="download the files (31 MB) once if they are not found in any folder")


class IdxConfig(Config):
    """Settings of a folder of IDX files."""

    path: str = Field(min_length=1, description="folder with MNIST's four file names, each gzipped or not")
    first: int | None = Field(None, ge=0, description=FIRST)
    mapped: bool | None = Field(
        None,
        description="read pictures from the files when training needs them, which must not be gzipped; None does so if "
        "they are larger than 256 MiB",
    )


class TextConfig(Config):
    """Settings of the sentences."""

    length: int = Field(32, ge=1, le=100_000, description="characters per example")
    train: int = Field(5000, ge=1, le=1_000_000, description="number of training examples")
    test: int = Field(1000, ge=1, le=1_000_000, description="number of test examples")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the random sentences")


class NpzConfig(Config):
    """Settings of a numpy archive."""

    path: str = Field(min_length=1, description="an .npz file with x_train, y_train, x_test and y_test")
    first: int | None = Field(None, ge=0, description=FIRST)


class NpyConfig(Config):
    """Settings of a folder of numpy files."""

    path: str = Field(
        min_length=1,
        description="folder with x_train.npy, y_train.npy, x_test.npy and y_test.npy, not loaded as a whole",
    )
    first: int | None = Field(None, ge=0, description=FIRST)
    unit: float | None = Field(
        None, gt=0, description="by what inputs that are bytes are divided; None is what dataset.json says, else 255"
    )


digits = Plugin(
    DatasetSpec(
        name="digits",
        summary="1797 handwritten digits of 8x8 pixels, included in the package",
        shape=(8, 8, 1),
        classes=tuple("0123456789"),
        train=1437,
        test=360,
        split="one fifth of every class is the test set, drawn once with numpy.random.default_rng(0) and "
        "stored in the file; writers occur in both parts",
        license="CC-BY-4.0",
        attribution="E. Alpaydin and C. Kaynak (1998): Optical Recognition of Handwritten Digits, UCI "
        "Machine Learning Repository",
        source="the UCI data set's test part, as in scikit-learn's load_digits; pixels 0..16 divided by 16",
        references=cited(__name__, "alpaydin1998optical"),
    ),
    "neurai_datasets.uci_digits:build",
)

fashion_mnist = Plugin(
    DatasetSpec(
        name="fashion-mnist",
        summary="70000 pictures of clothes, 28x28 pixels, in ten classes",
        config=FashionMnistConfig,
        shape=(28, 28, 1),
        classes=FASHION_CLASSES,
        train=60000,
        test=10000,
        split="as published",
        license="MIT",
        attribution="Zalando SE, 2017",
        source="$NEURAI_DATA, Debian's package dataset-fashion-mnist, or a download from "
        "github.com/zalandoresearch/fashion-mnist; pixels 0..255 divided by 255",
        references=cited(__name__, "xiao2017fashion"),
    ),
    "neurai_datasets.fashion:build",
)

idx = Plugin(
    DatasetSpec(
        name="idx",
        summary="a folder of IDX files under MNIST's names",
        config=IdxConfig,
        split="as in the files: train-* and t10k-*",
        source="the folder; unsigned bytes are divided by 255, other types taken as they are; classes are "
        "0, or the setting first, to the largest label",
    ),
    "neurai_datasets.idx_folder:build",
)

npy = Plugin(
    DatasetSpec(
        name="npy",
        summary="a folder of numpy files, which need not fit into memory",
        config=NpyConfig,
        split="as in the files",
        source="the files, whose rows are read when training needs them; inputs that are bytes are divided by 255, "
        "other integers taken as they are, floating-point numbers as float32; integer targets are labels of the "
        "classes 0, or the setting first, to the largest, floating-point targets those of a regression",
    ),
    "neurai_datasets.npy_folder:build",
)

npz = Plugin(
    DatasetSpec(
        name="npz",
        summary="a numpy archive with x_train, y_train, x_test and y_test",
        config=NpzConfig,
        split="as in the file",
        source="the file; inputs are taken as they are, as float32; integer targets are labels of the "
        "classes 0, or the setting first, to the largest, floating-point targets those of a regression",
    ),
    "neurai_datasets.npz_file:build",
)

text = Plugin(
    DatasetSpec(
        name="text",
        summary="characters of English sentences generated by a small grammar; predict the next one at every position",
        config=TextConfig,
        shape=(32,),
        dtype="int32",
        classes=tuple(CHARACTERS),
        train=5000,
        test=1000,
        split="drawn independently of each other",
        source="a grammar of 10 rows; an example begins where a sentence does, and each position has a label. A model "
        "that knows the grammar has a cross entropy of 0.3496 nats per character on the test set, less than which no "
        "model reaches",
        known_failures={"apart": "sentences of a small grammar, drawn independently, occur in both parts"},
    ),
    "neurai_datasets.sentences:build",
)

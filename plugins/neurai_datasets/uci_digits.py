"""The 1797 handwritten digits of scikit-learn and the UCI repository, included as one small file.

`data/README.md` says where they come from and how the file was made.
"""

from __future__ import annotations

import hashlib
import io
from importlib.resources import files
from typing import Any

import numpy as np

from neurai_core.data import Dataset, check
from neurai_core.errors import DataError
from neurai_core.specs import Config

SHA256 = "69c98f84446916f683f5a29301f5c61cbde8c236d0822aa0b1870bc1dbd6c918"
BRIGHTEST = 16  # a pixel counts the ink in a 4x4 block of the scanned 32x32 bitmap
CLASSES = tuple("0123456789")


def build(config: Config, **context: Any) -> Dataset:
    """The digits as float32 (N, 8, 8, 1) in [0, 1]; the file's own split, 1437 for training and 360 for testing.

    Raises:
        DataError: the included file is not the published one.
    """
    with np.load(io.BytesIO(_content()), allow_pickle=False) as archive:
        images, labels, test_rows = archive["images"], archive["labels"], archive["test_rows"]
    x = images[..., np.newaxis].astype(np.float32) / BRIGHTEST
    y = labels.astype(np.int32)
    test = np.isin(np.arange(len(y)), test_rows)
    return check(Dataset("digits", x[~test], y[~test], x[test], y[test], classes=CLASSES, license="CC-BY-4.0"))


def _content() -> bytes:
    source = files("neurai_datasets").joinpath("data", "digits.npz")
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{source} is damaged: its SHA-256 is {found}, expected {SHA256}.",
            "Reinstall the package neurai.",
        )
    return content

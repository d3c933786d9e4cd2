"""Any folder of IDX files under MNIST's names as a data set: MNIST itself, KMNIST, or your own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from neurai_core.data import Dataset
from neurai_datasets import IdxConfig
from neurai_datasets.idx_files import dataset, find_all, read


def build(config: IdxConfig, **context: Any) -> Dataset:
    """The data set in `config.path`: images (N, H, W, C), bytes scaled to [0, 1], classes up to the largest label.

    Raises:
        DataError: the folder lacks a file, a file is truncated, too long or not IDX, or the data are invalid.
    """
    paths = find_all(Path(os.path.expanduser(config.path)))
    arrays = {name: read(path) for name, path in paths.items()}
    return dataset("idx", arrays, paths, first=config.first)

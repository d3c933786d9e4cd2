"""Any folder of IDX files under MNIST's names as a data set: MNIST itself, KMNIST, or your own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurai_core.data import Dataset
from neurai_datasets import IdxConfig
from neurai_datasets.idx_files import TEST_IMAGES, TRAIN_IMAGES, dataset, find_all, is_gzipped, mapped, read, unpacked

LARGE = 2**28  # bytes of pictures above which they are mapped: 256 MiB
IMAGES = (TRAIN_IMAGES, TEST_IMAGES)


def build(config: IdxConfig, **context: Any) -> Dataset:
    """The data set in `config.path`: images (N, H, W, C), bytes scaled to [0, 1], classes up to the largest label.

    With `unpack_into`, a folder, gzipped pictures are unpacked into it, and all are mapped.

    Raises:
        DataError: the folder lacks a file, a file is truncated, too long or not IDX, or the data are invalid.
    """
    paths, folder = find_all(Path(os.path.expanduser(config.path))), context.get("unpack_into")
    if folder is not None:
        paths |= {name: unpacked(paths[name], folder) for name in IMAGES}
    wanted = folder is not None or (_large(paths) if config.mapped is None else config.mapped)
    arrays = {name: mapped(path) if wanted and name in IMAGES else read(path) for name, path in paths.items()}
    return dataset("idx", arrays, paths, first=config.first)


def _large(paths: Mapping[str, Path]) -> bool:
    """Whether the pictures take much memory and can be mapped."""
    images = [paths[name] for name in IMAGES]
    return sum(os.path.getsize(path) for path in images) > LARGE and not any(map(is_gzipped, images))

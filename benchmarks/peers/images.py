"""What the workers of conv_peers.py share: two convolutional networks and a batch. Standard library and NumPy only."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

BATCH = 64
DT, BETA = 0.1, 0.5  # of equilibrium propagation
# kind of layer, then width, kernel and padding of convolutions; every hidden layer ends in the activation
NETS: dict[str, tuple[tuple[int, ...], list[tuple[Any, ...]]]] = {
    "LeNet": (
        (28, 28, 1),
        [
            *(("conv", 6, 5, 2), ("pool",), ("conv", 16, 5, 0), ("pool",), ("flat",)),
            *(("dense", 120), ("dense", 84), ("dense", 10)),
        ],
    ),
    "VGG": (
        (32, 32, 3),
        [part for width in (32, 64, 64, 128) for part in (("conv", width, 3, 1), ("pool",))]
        + [("flat",), ("dense", 10)],
    ),
}


def problem() -> tuple[str, list[tuple[Any, ...]], list[np.ndarray], np.ndarray, np.ndarray]:
    """Pooling and layers from the command line, He-normal weights, images ``(B, H, W, C)`` and one-hot targets."""
    name, pool = json.loads(sys.argv[1])
    (height, width, channels), layers = NETS[name]
    draw = np.random.default_rng(0)
    images = draw.normal(size=(BATCH, height, width, channels)).astype(np.float32)
    weights, fan = [], 0
    for kind, *sizes in layers:
        if kind == "conv":
            out, kernel, pad = sizes
            shape: tuple[int, ...] = (kernel, kernel, channels, out)
            height, width, channels = height + 2 * pad - kernel + 1, width + 2 * pad - kernel + 1, out
        elif kind == "dense":
            shape, fan = (fan, sizes[0]), sizes[0]
        else:
            height, width = (height // 2, width // 2) if kind == "pool" else (height, width)
            fan = height * width * channels if kind == "flat" else fan
            continue
        weights.append((draw.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32))
    return pool, layers, weights, images, np.eye(10, dtype=np.float32)[draw.integers(0, 10, BATCH)]

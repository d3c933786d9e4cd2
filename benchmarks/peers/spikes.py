"""What the workers of snn_conv_peers.py share: a spiking convolutional network and a batch. NumPy only."""

from __future__ import annotations

import json
import sys

import numpy as np

STEPS, BATCH, SIDE, CHANNELS, KERNEL, CLASSES = 25, 64, 28, (12, 32), 5, 10  # 12C5-P2-32C5-P2-10
DECAY, SLOPE = 0.9, 10.0


def flat() -> int:
    """The width of the dense layer's input."""
    side = SIDE
    for _ in CHANNELS:
        side = (side - KERNEL + 1) // 2
    return side * side * CHANNELS[-1]


def problem() -> tuple[str, list[np.ndarray], np.ndarray, np.ndarray]:
    """The pooling from the command line, He-normal weights, spikes ``(T, B, H, W, 1)`` and labels."""
    draw = np.random.default_rng(0)
    fans = [*zip((1, *CHANNELS[:-1]), CHANNELS, strict=True)]
    shapes = [*((KERNEL, KERNEL, fan_in, out) for fan_in, out in fans), (flat(), CLASSES)]
    weights = [(draw.normal(size=one) * np.sqrt(2 / np.prod(one[:-1]))).astype(np.float32) for one in shapes]
    spikes = (draw.random((STEPS, BATCH, SIDE, SIDE, 1)) < 0.2).astype(np.float32)
    return json.loads(sys.argv[1]), weights, spikes, draw.integers(0, CLASSES, BATCH)

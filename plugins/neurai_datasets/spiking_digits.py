"""The handwritten digits as spikes: (N, T, 64), coded by latency or by rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_datasets import uci_digits
from neurai_datasets.spiking_specs import SpikingDigitsConfig

Array = NDArray[Any]


def build(config: SpikingDigitsConfig, **context: Any) -> Dataset:
    """The digits with time first: float32 zeros and ones of shape (N, T, 64)."""
    digits = uci_digits.build(config)
    rng = np.random.default_rng(config.seed)
    train, test = (_coded(x.reshape(len(x), -1), config, rng) for x in (digits.x_train, digits.x_test))
    made = Dataset(
        "spiking-digits", train, digits.y_train, test, digits.y_test, classes=digits.classes, license=digits.license
    )
    return check(made)


def _coded(x: Array, config: SpikingDigitsConfig, rng: np.random.Generator) -> Array:
    coded = _latency(x, config.steps, config.threshold) if config.coding == "latency" else _rate(x, config.steps, rng)
    return coded.astype(np.float32)


def _latency(x: Array, steps: int, threshold: float) -> Array:
    """One spike where x reaches the threshold: 1 at the first step, the threshold itself at the last."""
    at = np.round((1 - (x - threshold) / (1 - threshold)) * (steps - 1))
    return (np.arange(steps)[:, None] == at[:, None]) & (x >= threshold)[:, None]


def _rate(x: Array, steps: int, rng: np.random.Generator) -> Array:
    return rng.random((len(x), steps, x.shape[1])) < x[:, None]

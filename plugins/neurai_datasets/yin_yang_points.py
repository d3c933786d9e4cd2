"""The Yin-Yang data, drawn as by the authors' code, bit for bit. Kriener, Göltz and Petrovici 2022.

A circle of radius 1/2 about (1/2, 1/2) is divided into yin, yang and their dots. An example is a point
(x, y, 1 - x, 1 - y), or the times at which four units fire.
"""

from __future__ import annotations

from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_datasets.spiking_specs import YIN_YANG_CLASSES, YinYangConfig

BIG = 0.5
DOT = 2

Array = NDArray[Any]


def build(config: YinYangConfig, **context: Any) -> Dataset:
    """Points (N, 4), or spikes (N, T, 5) if the settings give a number of steps."""
    train, y_train = points(config.train, config.train_seed, config.small_radius)
    test, y_test = points(config.test, config.test_seed, config.small_radius)
    if config.steps is not None:
        train, test = _spikes(train, config.steps), _spikes(test, config.steps)
    parts = train.astype(np.float32), y_train, test.astype(np.float32), y_test
    return check(Dataset("yin-yang", *parts, classes=YIN_YANG_CLASSES))


def points(n: int, seed: int, small: float = 0.1) -> tuple[Array, Array]:
    """Points (n, 4) in double precision and their classes (n,).

    The class is drawn first, then points until one falls into it.

    Args:
        n: number of points.
        seed: of ``numpy.random.RandomState``.
        small: radius of the dots.

    Example:
        >>> x, y = points(2, seed=42)
        >>> x.round(3).tolist(), y.tolist()
        ([[0.68, 0.45, 0.32, 0.55], [0.098, 0.684, 0.902, 0.316]], [2, 1])
    """
    rng = np.random.RandomState(seed)
    labels = np.empty(n, np.int32)
    found = np.empty((n, 2))
    for row in range(n):
        labels[row] = rng.randint(3)
        found[row] = _point(rng, labels[row], small)
    return np.concatenate([found, 1 - found], axis=1), labels


def _point(rng: np.random.RandomState, goal: int, small: float) -> tuple[float, float]:
    while True:
        x, y = rng.rand(2) * 2 * BIG
        if hypot(x - BIG, y - BIG) <= BIG and _label(x, y, small) == goal:
            return x, y


def _label(x: float, y: float, small: float) -> int:
    right, left = hypot(x - 1.5 * BIG, y - BIG), hypot(x - 0.5 * BIG, y - BIG)
    if right < small or left < small:
        return DOT
    return int(right <= small or small < left <= 0.5 * BIG or (y > BIG and right > 0.5 * BIG))


def _spikes(x: Array, steps: int) -> Array:
    """One spike per unit at a time proportional to its number, and one of a fifth unit at the first step."""
    times = np.concatenate([np.round(x * (steps - 1)), np.zeros((len(x), 1))], axis=1)
    return np.arange(steps)[:, None] == times[:, None]

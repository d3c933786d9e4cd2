r"""Random manifolds as spike times. Zenke and Vogels 2021, doi:10.1162/neco_a_01367, and their code.

Unit m lies at $y_m(x) = \prod_d f_{md}(x_d)$ over a point x drawn from the unit cube, with

$$f(x) = \sum_{i=0}^{K-1} \theta_{0i} S_i \sin 2\pi(i x \theta_{1i} + \theta_{2i}) \qquad
  K = \min(\lceil 1000^{1/a} \rceil, 1000)$$

where every $\theta$ is drawn from [0, 1) and $\theta_{00} = 0$. The authors' two programs differ in the spectrum:
numpy has $S_i = (i+1)^{-a}$, torch $S_i = ((i+1)^a + 1)^{-1}$. Over the examples of a class, each unit is scaled
to [0, 1]; this value times the number of steps is its firing time.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_datasets.spiking_specs import RandmanConfig

PRECISION, CUTOFF = 1e-3, 1000
LARGEST_SEED = 2**31 - 1

Array = NDArray[Any]


def build(config: RandmanConfig, **context: Any) -> Dataset:
    """Spikes as float32 of shape (N, T, units); a unit that fires twice in one step counts 2 there."""
    rng = np.random.RandomState(config.seed)
    seeds = rng.randint(LARGEST_SEED, size=(config.classes, config.spikes))
    times = np.concatenate([_class_times(config, rng, seeds[k]) for k in range(config.classes)])
    labels = np.repeat(np.arange(config.classes, dtype=np.int32), config.samples)
    order = rng.permutation(len(labels))
    x, y = _binned(times[order], config), labels[order]
    first = len(y) - len(y) // 5
    classes = tuple(map(str, range(config.classes)))
    return check(Dataset("randman", x[:first], y[:first], x[first:], y[first:], classes=classes))


def manifold(rng: np.random.RandomState, units: int, dimension: int, smoothness: float) -> Array:
    """Draw the parameters theta of one manifold, (units, dimension, 3, K)."""
    count = int(min(np.ceil(np.power(PRECISION, -1 / smoothness)), CUTOFF))
    theta = rng.uniform(low=0, high=1, size=(units, dimension, 3, count))
    theta[:, :, 0, 0] = 0
    return theta


def embed(x: Array, theta: Array, smoothness: float, spectrum: Literal["numpy", "torch"] = "numpy") -> Array:
    """Evaluate the manifold at the points x.

    Args:
        x: (N, dimension), in the unit cube.
        theta: as `manifold` draws them.
        smoothness: a.
        spectrum: ``numpy`` or ``torch``.

    Returns:
        (N, units).
    """
    i = np.arange(theta.shape[-1])
    power = (i + 1.0) ** smoothness
    strength = 1 / power if spectrum == "numpy" else 1 / (power + 1)
    y = np.ones((len(x), len(theta)))
    for d in range(x.shape[1]):
        for unit, (size, frequency, phase) in enumerate(theta[:, d]):
            waves = np.sin(2 * np.pi * (i * x[:, d, None] * frequency + phase))
            y[:, unit] *= waves @ (size * strength)
    return y


def _class_times(config: RandmanConfig, rng: np.random.RandomState, seeds: Array) -> Array:
    """Times in [0, 1), (samples, units, spikes), of the examples of one class."""
    x = rng.rand(config.samples, config.dimension)
    times = []
    for seed in seeds:
        theta = manifold(np.random.RandomState(seed), config.units, config.dimension, config.smoothness)
        y = embed(x, theta, config.smoothness, config.spectrum)
        low, high = y.min(axis=0), y.max(axis=0)
        times.append((y - low) / (high - low + 1e-7))
    return np.stack(times, axis=-1)


def _binned(times: Array, config: RandmanConfig) -> Array:
    steps = np.minimum((times * config.steps * config.fraction).astype(int), config.steps - 1)
    spikes = np.zeros((len(times), config.steps, config.units), np.float32)
    rows, units = np.ogrid[: len(times), : config.units]
    for k in range(config.spikes):
        spikes[rows, steps[..., k], units] += 1  # each (row, unit) occurs once
    return spikes

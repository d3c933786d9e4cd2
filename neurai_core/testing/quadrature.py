"""Integrals over all real numbers, of functions with kinks, jumps and heavy tails.

Gauss's rule on panels whose size grows with the distance from 0; a panel is halved until its halves agree with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
OCTAVES = np.exp2(np.arange(-6, 241))  # ends of the panels in widths; their squares and cubes are floats
MOST_PANELS, MOST_HALVINGS = 1000, 50

Function = Callable[[np.ndarray], np.ndarray]


def integral(function: Function, width: float) -> float:
    """The integral over all u; NaN if it does not settle.

    Args:
        function: takes an array of points.
        width: a distance over which it changes.

    >>> round(integral(lambda u: np.abs(u) < 0.3, width=1.0), 9), round(integral(lambda u: 1 / (1 + u**2), 1.0), 9)
    (0.6, 3.141592654)
    """
    ends = width * np.array([-OCTAVES[0], *OCTAVES])
    right = np.stack([ends[:-1], ends[1:]])
    left = np.stack([-ends[2:], -ends[1:-1]])
    return _settled(function, np.concatenate([right, left], axis=1))


def grows_forever(function: Function, width: float) -> bool:
    """Whether the integral still grows by a hundredth between a million and a hundred million widths.

    >>> grows_forever(lambda u: 1 / (1 + np.abs(u)), 1.0), grows_forever(lambda u: 1 / (1 + np.abs(u)) ** 1.5, 1.0)
    (True, False)
    """
    near, far = (width * np.geomspace(low, high, 65) for low, high in ((1e-3, 1e6), (1e6, 1e8)))
    found = [
        float(
            np.sum(
                _gauss(function, np.stack([ends[:-1], ends[1:]])) + _gauss(function, np.stack([-ends[1:], -ends[:-1]]))
            )
        )
        for ends in (near, far)
    ]
    return abs(found[1]) > 0.01 * abs(found[0])


def _settled(function: Function, panels: np.ndarray) -> float:
    total, coarse = 0.0, _gauss(function, panels)
    for _ in range(MOST_HALVINGS):
        middle = panels.mean(0)
        halves = np.concatenate([np.stack([panels[0], middle]), np.stack([middle, panels[1]])], axis=1)
        fine = _gauss(function, halves)
        both = fine.reshape(2, -1).sum(0)
        # A comparison with NaN is false, so that panels with NaN are not halved, and the total is NaN.
        rough = np.abs(both - coarse) > 1e-13 * np.abs(total + both.sum())
        total += float(both[~rough].sum())
        if not rough.any():
            return total
        again = np.tile(rough, 2)
        panels, coarse = halves[:, again], fine[again]
        if panels.shape[1] > MOST_PANELS:
            return np.nan
    return total + float(coarse.sum())


def _gauss(function: Function, panels: np.ndarray) -> np.ndarray:
    """The integral over each panel."""
    middle, half = panels.mean(0), (panels[1] - panels[0]) / 2
    points = middle + half * NODES[:, None]
    return half * (WEIGHTS @ function(points.ravel()).reshape(points.shape))

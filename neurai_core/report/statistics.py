"""Intervals and tests for the scores of a few seeds: Student's t, paired, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit


class Interval(NamedTuple):
    """A mean with the limits of its confidence interval; these are None for a single value."""

    mean: float
    low: float | None
    high: float | None


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of values, and the interval that holds the mean of their distribution, by Student's t.

    Args:
        values: at least one; independent.
        confidence: probability with which the interval holds it, if the values are normally distributed.

    >>> [round(value, 3) for value in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, None, None)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """The p-value of the paired t test, two-sided: how likely so large a difference is if there is none on average.

    Args:
        first: at least two values.
        second: as many; each belongs to the value at its place in the first.

    >>> round(paired_t([1.0, 2.0, 4.0], [0.0, 0.0, 1.0]), 4)
    0.0742
    """
    differences = np.subtract(first, second)
    n, mean, spread = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(mean) * math.sqrt(n) / spread))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm's method: below 0.05, all hold together at that level.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(np.argsort(p_values, kind="stable")):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = least
    return corrected

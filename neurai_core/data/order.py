"""The order of rows and batches: a pure function of (seed, epoch, step)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neurai_core.data.rows import Array, check_lengths
from neurai_core.errors import DataError


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Row numbers 0..n-1 in the order of an epoch: a pure function of its arguments.

    Example:
        >>> from neurai_core.data import order
        >>> order(seed=0, epoch=0, n=5), order(seed=0, epoch=1, n=5)
        (array([2, 4, 3, 0, 1]), array([1, 4, 3, 0, 2]))
    """
    if seed < 0 or epoch < 0:
        raise DataError(f"seed={seed} and epoch={epoch} do not determine a data order.", "Both must be 0 or more.")
    return np.random.default_rng([seed, epoch]).permutation(n)


def steps_per_epoch(n: int, batch_size: int, *, drop_last: bool = True) -> int:
    """Number of batches that one epoch over `n` rows has.

    Raises:
        DataError: `batch_size` is below 1, or above `n` if short batches are dropped.

    Example:
        >>> from neurai_core.data import steps_per_epoch
        >>> steps_per_epoch(1437, 64), steps_per_epoch(1437, 64, drop_last=False)
        (22, 23)
    """
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size} holds no rows.", f"Choose a batch size in 1..{n}.")
    if drop_last and batch_size > n:
        raise DataError(
            f"batch_size={batch_size} is larger than the {n} rows to train on.",
            f"Choose a batch size in 1..{n}.",
        )
    return n // batch_size if drop_last else -(-n // batch_size)


def batches(
    x: Array, y: Array, batch_size: int, seed: int, epoch: int, start: int = 0, *, drop_last: bool = True
) -> Iterator[tuple[Array, Array]]:
    """The batches of one epoch from step `start` on; batch `step` depends on (seed, epoch, step) alone.

    With `drop_last` the rows that do not fill a batch are left out, so that a compiled step sees one shape.
    Each epoch has its own permutation, so it leaves out different rows, and none is lost to training.
    `drop_last=False` delivers every row and may end with one shorter batch.

    Args:
        x: inputs, (N, ...).
        y: targets, (N, ...).
        batch_size: rows of a batch, at most N.
        seed: seed of the data order.
        epoch: which pass over the data, from 0.
        start: the first step to deliver, where a resumed run continues.
        drop_last: leave out the last batch if it is short.

    Returns:
        An iterator over pairs (x, y) with `batch_size` rows.

    Raises:
        DataError: at the call, before the first batch: the batch size or the start is invalid, or x and y have
            different lengths.

    Example:
        >>> from neurai_core.data import batches
        >>> x, y = np.arange(5.0)[:, None], np.arange(5)
        >>> [y_batch.tolist() for _, y_batch in batches(x, y, batch_size=2, seed=0, epoch=0)]
        [[2, 4], [3, 0]]
        >>> [y_batch.tolist() for _, y_batch in batches(x, y, batch_size=2, seed=0, epoch=0, start=1)]
        [[3, 0]]
    """
    check_lengths(x, y, ("x", "y"))
    steps = steps_per_epoch(len(x), batch_size, drop_last=drop_last)
    if not 0 <= start <= steps:
        raise DataError(
            f"start={start} lies outside the {steps} steps of an epoch.",
            f"Choose a start in 0..{steps}; step {start} of the run is step start % {steps} of its epoch.",
        )
    rows = order(seed, epoch, len(x))
    chosen = (rows[step * batch_size : (step + 1) * batch_size] for step in range(start, steps))
    return ((x[row], y[row]) for row in chosen)

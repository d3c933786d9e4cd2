"""The rows of a batch or of a data set: how many there are, and which one is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """The order and naming of rows: in file order, or in the order of a run's first epoch."""

    sequence: NDArray[np.int64] | None = None
    batch_size: int | None = None
    epoch: str = ""

    def first(self, bad: NDArray[np.bool_]) -> tuple[int, str]:
        """The first bad row, and a description of where it is."""
        position = int(np.argmax(bad if self.sequence is None else bad[self.sequence]))
        row = position if self.sequence is None else int(self.sequence[position])
        batch = "" if self.batch_size is None else f" (batch {position // self.batch_size}{self.epoch})"
        return row, f"row {row}{batch}"


def check_lengths(x: Array, y: Array, names: tuple[str, str]) -> None:
    """Check that inputs and targets have as many rows, and at least one."""
    for array, name in zip((x, y), names, strict=True):
        if array.ndim == 0:
            raise DataError(f"{name} is a single number, expected (N, ...).", "Put the batch axis first.")
    if len(x) != len(y):
        raise DataError(
            f"{names[0]} has {len(x)} rows and {names[1]} has {len(y)}, expected as many targets as inputs.",
            f"The shapes are {x.shape} and {y.shape}; the first axis of both counts the examples.",
        )
    if x.size == 0:
        raise DataError(f"{names[0]} is empty: its shape is {x.shape}.", "At least one example is needed.")

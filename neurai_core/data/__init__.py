"""Data sets, the order of their rows, and checks before any of them reach a model.

The order of the data is a pure function of (seed, epoch, step): nothing about it has to be saved, and every
process of a distributed run sees the same global batch. Everything here is NumPy and runs at the boundary,
outside `jax.jit`.
"""

from __future__ import annotations

from neurai_core.data.checks import check, check_batch
from neurai_core.data.classes import numbered_classes, warn_of_empty_classes
from neurai_core.data.dataset import Dataset
from neurai_core.data.order import batches, order, steps_per_epoch
from neurai_core.data.rows import Array as Array

__all__ = [  # noqa: RUF022 - in the order of the page
    "Dataset",
    "check",
    "check_batch",
    "order",
    "steps_per_epoch",
    "batches",
    "numbered_classes",
    "warn_of_empty_classes",
]

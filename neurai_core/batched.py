"""Data sets whose training data come in batches, for instance from the loader of another library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from neurai_core.specs import Origin


@dataclass(frozen=True, eq=False)
class BatchedData:
    """Training data in batches, and test data in memory; what a data set plugin may build instead of a `Dataset`.

    Args:
        name: the name that tables and run folders show.
        train: pairs (x, y) of arrays, batch axis first: an iterable that gives the same batches in every epoch, or a
            function of the epoch, counted from 0, that returns one. The function may take, by these names, the
            ``seed`` and the ``batch_size`` of the run, and the ``start``: the first step to deliver, where a run
            continues. Without ``start``, the batches before it are passed over. It must be a pure function of what it
            takes, for a run to be repeated. A thread goes through the batches, ahead of the step that needs them.
        x_test: test inputs, (M, ...), or None.
        y_test: test targets, or None.
        classes: names of the labels 0, 1, ...; None for a regression.
        license: the terms of the data.
        steps: batches of an epoch, or a function of the batch size that says so; None takes the length of what `train`
            gives, or goes through it once to count.
        sha256: a hash of the data, for the record of a run; empty if there is none, so that nothing notices other data.
        origin: the plugin and settings that made it.

    Example:
        >>> import numpy as np
        >>> from neurai_core.data import batches
        >>> x, y = np.zeros((10, 2), np.float32), np.arange(10) % 2
        >>> def train(epoch, seed, batch_size, start):
        ...     return list(batches(x, y, batch_size, seed, epoch, start))
        >>> data = BatchedData("mine", train, classes=("even", "odd"))
        >>> len(data.of_epoch(0, seed=0, batch_size=4, start=0)), data.takes("batch_size")
        (2, True)
    """

    name: str
    train: Iterable[Any] | Callable[..., Iterable[Any]] = field(repr=False)
    x_test: Any = field(default=None, repr=False)
    y_test: Any = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    license: str = ""
    steps: int | Callable[[int], int] | None = None
    sha256: str = ""
    origin: Origin | None = field(default=None, repr=False)

    @property
    def is_function(self) -> bool:
        """Whether the batches are a function of the epoch."""
        return callable(self.train) and not hasattr(self.train, "__iter__")

    def takes(self, name: str) -> bool:
        """Whether the batches are a function of ``seed``, ``batch_size`` or ``start``."""
        return name in self._arguments

    def of_epoch(self, epoch: int, **given: int) -> Iterable[Any]:
        """The batches of an epoch; of what is given, the function gets what it takes."""
        if not self.is_function:
            return cast(Iterable[Any], self.train)
        taken = {name: value for name, value in given.items() if name in self._arguments}
        return cast(Callable[..., Iterable[Any]], self.train)(epoch, **taken)

    def epoch_steps(self, batch_size: int) -> int | None:
        """Batches of an epoch, if that is known."""
        return self.steps(batch_size) if callable(self.steps) else self.steps

    def with_origin(self, origin: Origin) -> BatchedData:
        """The same data, with the plugin and the settings that made them."""
        return replace(self, origin=origin)

    @property
    def _arguments(self) -> frozenset[str]:
        if not self.is_function:
            return frozenset()
        known, asked = {"seed", "batch_size", "start"}, inspect.signature(cast(Any, self.train)).parameters
        anything = any(one.kind is one.VAR_KEYWORD for one in asked.values())
        return frozenset(known if anything else known & asked.keys())

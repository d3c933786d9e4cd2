"""The data set: its arrays, and everything that a run needs to know about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from neurai_core.specs import Origin
from neurai_core.stored import FileMark, StoredArray, files_of, parts_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples with everything that a run needs to know about them.

    The arrays are kept as read-only views, so that the data hash stays valid. They may be memory maps, or inputs a
    `neurai_core.stored.StoredArray`: training then reads their rows when it needs them.

    Args:
        name: the name that tables and run folders show.
        x_train: training inputs, (N, ...), floating point, or integers for codes, such as those of characters;
            images are (N, H, W, C).
        y_train: training targets: integer labels (N,), class probabilities (N, n_classes), or floating-point
            targets (N, ...) of a regression. Labels and probabilities may also be given for every position of the
            inputs: labels (N, T) for inputs (N, T) or (N, T, D). None without targets, which are kept as (N, 0).
        x_test: test inputs, (M, ...), with the feature shape of `x_train`.
        y_test: test targets, of the same kind, or None.
        classes: names of the labels 0, 1, ...; None for a regression.
        license: the terms of the data.
        origin: the plugin and settings that made it; None for your own arrays.
        files: the files that the arrays are mapped from, as they were found, by default when this object is made.
            Training stops if one of them changes.

    Example:
        >>> import numpy as np
        >>> from neurai_core.data import Dataset, check
        >>> x, y = np.zeros((6, 8, 8, 1), np.float32), np.array([0, 1, 0, 1, 0, 1], np.int32)
        >>> data = check(Dataset("stripes", x[:4], y[:4], x[4:], y[4:], classes=("flat", "upright")))
        >>> data.input_shape, data.n_classes, len(data.sha256)
        ((8, 8, 1), 2, 64)
    """

    name: str
    x_train: Any = field(repr=False)
    y_train: Any = field(repr=False)
    x_test: Any = field(repr=False)
    y_test: Any = field(repr=False)
    classes: tuple[str, ...] | None = None
    license: str = ""
    origin: Origin | None = field(default=None, repr=False)
    files: tuple[FileMark, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.files:
            arrays = self.x_train, self.y_train, self.x_test, self.y_test
            object.__setattr__(self, "files", files_of(*arrays))
        for part in ("train", "test"):
            x = _read_only(getattr(self, f"x_{part}"))
            y = getattr(self, f"y_{part}")
            object.__setattr__(self, f"x_{part}", x)
            object.__setattr__(self, f"y_{part}", _read_only(np.zeros((len(x), 0), np.float32) if y is None else y))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, e.g. (28, 28, 1): what `Layered.init` takes."""
        return tuple(self.x_train.shape[1:])

    @property
    def n_classes(self) -> int | None:
        """Number of classes; None for a regression."""
        return None if self.classes is None else len(self.classes)

    @property
    def labeled(self) -> bool:
        """Whether there are targets."""
        return bool(self.y_train.size)

    @cached_property
    def sha256(self) -> str:
        """The data hash: SHA-256 over name, dtype, shape and bytes of the four arrays, computed once."""
        digest = hashlib.sha256()
        for name in ("x_train", "y_train", "x_test", "y_test"):
            array = getattr(self, name)
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            if known := getattr(array, "digest", ""):
                digest.update(known.encode())
                continue
            for part in parts_of(array):
                digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def with_origin(self, origin: Origin) -> Dataset:
        """The same data, with the plugin and the settings that made them."""
        return replace(self, origin=origin)


def _read_only(array: Any) -> Any:
    if isinstance(array, StoredArray):  # cannot be written to
        return array
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view

"""Data sets, the order of their rows, and checks before any of them reach a model.

The order of the data is a pure function of (seed, epoch, step): nothing about it has to be saved, and every
process of a distributed run sees the same global batch. Everything here is numpy and runs at the boundary,
outside `jax.jit`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurai_core.errors import DataError
from neurai_core.specs import Origin
from neurai_core.stored import FileMark, StoredArray, files_of, parts_of

Array = NDArray[Any]


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


def check(data: Dataset, batch_size: int | None = None, seed: int | None = None) -> Dataset:
    """Return `data` unchanged if a model can be trained and tested on it.

    Args:
        data: the data set.
        batch_size: also checked; a bad training row is then named with its batch.
        seed: the seed of the data order; the first bad row is then the first one in training order, in
            epoch 0. Without it, rows and batches are counted in file order.

    Returns:
        The data set that was given.

    Raises:
        DataError: names the field and the first row of it that is wrong: empty set, x and y of different
            lengths, NaN or inf, labels that are not integers or outside the classes, feature shapes of
            training and test that differ, a batch size below 1 or above the number of training rows.
    """
    _check_part(data, "train", batch_size=batch_size, seed=seed)
    _check_part(data, "test")
    for name in ("x", "y"):
        _check_same_features(data, name)
    return data


def check_batch(
    x: ArrayLike,
    y: ArrayLike,
    n_classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    *,
    where: str = "the batch",
) -> None:
    """Check one batch at the boundary: numpy or JAX arrays, not traced ones.

    Args:
        x: inputs, (B, ...).
        y: targets, (B, ...).
        n_classes: if given, `y` must be integer labels (B,) in 0..n_classes-1, or class probabilities
            (B, n_classes), or one of them for every position of `x`: (B, T) or (B, T, n_classes).
        input_shape: required shape of one example.
        where: name of the batch in errors, e.g. "batch 12 of epoch 0".

    Raises:
        DataError: names the field and the first row that is wrong.

    Example:
        >>> from neurai_core.data import check_batch
        >>> check_batch(np.zeros((2, 3)), np.array([0, 4]), n_classes=3)
        Traceback (most recent call last):
            ...
        neurai_core.errors.DataError: y of the batch holds label 4 in row 1, outside the classes 0..2.
        Number the classes 0..2, or give the model 5 outputs.
    """
    x_array, y_array = np.asarray(x), np.asarray(y)
    names = f"x of {where}", f"y of {where}"
    _check_lengths(x_array, y_array, names)
    if input_shape is not None:
        _check_input_shape(x_array, tuple(input_shape), names[0])
    _check_values(x_array, y_array, n_classes, names, _Rows())


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
    _check_lengths(x, y, ("x", "y"))
    steps = steps_per_epoch(len(x), batch_size, drop_last=drop_last)
    if not 0 <= start <= steps:
        raise DataError(
            f"start={start} lies outside the {steps} steps of an epoch.",
            f"Choose a start in 0..{steps}; step {start} of the run is step start % {steps} of its epoch.",
        )
    rows = order(seed, epoch, len(x))
    chosen = (rows[step * batch_size : (step + 1) * batch_size] for step in range(start, steps))
    return ((x[row], y[row]) for row in chosen)


def numbered_classes(name: str, *labels: Array, first: int | None = None) -> tuple[str, ...]:
    """The names "0", "1", ... up to the largest of integer labels, for data that do not name their classes.

    Args:
        name: the data set's name, or its file, for errors.
        *labels: integer labels of every part, (N,) each.
        first: the label of the first class, to be subtracted from the labels; None expects 0 with an example.

    Raises:
        DataError: there are more classes than labels, or the smallest label is not that of the first class.

    Example:
        >>> import numpy as np
        >>> from neurai_core.data import numbered_classes
        >>> numbered_classes("mine", np.array([0, 2, 1]), np.array([1]))
        ('0', '1', '2')
    """
    largest = max((int(part.max()) for part in labels if part.size), default=-1)
    smallest = min((int(part.min()) for part in labels if part.size), default=0)
    rows = sum(part.size for part in labels)
    if max(largest, -smallest) >= max(rows, 1):
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest} in only {rows} rows, "
            "expected the numbers 0, 1, ... of classes.",
            "Renumber them with np.unique(labels, return_inverse=True).",
        )
    _check_first(name, smallest, largest, first)
    return tuple(str(label) for label in range(first or 0, largest + 1))


def warn_of_empty_classes(data: Dataset, source: str) -> Dataset:
    """Return the data, with a warning if classes have no training example, for instance a gap in the numbers.

    Args:
        data: a checked data set with labels, or of a regression.
        source: where the labels came from, for the warning.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> data = Dataset("mine", x, y, x, y, classes=("0", "1"))
        >>> warn_of_empty_classes(data, "mine.npz") is data
        True
    """
    classes = data.classes or ()
    empty = [name for label, name in enumerate(classes) if label not in set(np.unique(data.y_train).tolist())]
    if empty:
        few = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        warnings.warn(
            f"No training example of {source} has label {few}: the model gets an output for it that is never right.",
            stacklevel=2,
        )
    return data


def _check_first(name: str, smallest: int, largest: int, first: int | None) -> None:
    if first is None and smallest > 0:
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest}, expected classes that count from 0.",
            f"Subtract {smallest}, as idx and npz do with first={smallest} (--set data.first={smallest}); if class 0 "
            "merely has no example here, say first=0.",
        )
    if first is not None and smallest < first:
        raise DataError(
            f"the labels of {name} run from {smallest} to {largest}, expected {first} or more, the first class.",
            f"Set first={max(smallest, 0)}.",
        )


@dataclass(frozen=True)
class _Rows:
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


def _check_part(data: Dataset, part: str, batch_size: int | None = None, seed: int | None = None) -> None:
    names = f"x_{part} of {data.name}", f"y_{part} of {data.name}"
    x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
    _check_lengths(x, y, names)
    if batch_size is not None:
        steps_per_epoch(len(x), batch_size)
    sequence, epoch = (None, "") if seed is None else (order(seed, 0, len(x)), " of epoch 0")
    _check_values(x, y, data.n_classes, names, _Rows(sequence, batch_size, epoch))


def _check_lengths(x: Array, y: Array, names: tuple[str, str]) -> None:
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


def _check_values(x: Array, y: Array, n_classes: int | None, names: tuple[str, str], rows: _Rows) -> None:
    _check_numbers(x, names[0], rows)
    if n_classes is None or _are_probabilities(x, y, n_classes):
        _check_numbers(y, names[1], rows)
    else:
        _check_labels(x, y, n_classes, names[1], rows)


def _are_probabilities(x: Array, y: Array, n_classes: int) -> bool:
    """Whether targets are class probabilities, of each example or of each position of the inputs."""
    fit = y.ndim > 1 and y.shape[-1] == n_classes and y.shape[:-1] == x.shape[: y.ndim - 1]
    return fit and np.issubdtype(y.dtype, np.floating)


def _check_numbers(array: Array, name: str, rows: _Rows) -> None:
    if _always_finite(array):
        _check_held(array, name, rows)
        return
    finite = np.concatenate([_finite(part, name).reshape(len(part), -1).all(axis=1) for part in parts_of(array)])
    if finite.all():
        return
    bad = np.asarray(~finite)
    row, where = rows.first(bad)
    at = tuple(int(i) for i in np.argwhere(~_finite(array[row], name))[0])
    raise DataError(
        f"{name} holds {array[row][at]} in {where}{f' at {at}' if at else ''}, expected finite numbers.",
        f"{int(bad.sum())} of {len(array)} rows hold NaN or inf; remove or repair them.",
    )


def _always_finite(array: Any) -> bool:
    """Whether the type of the numbers, as they are stored, has no NaN or infinity."""
    return (array.stored if isinstance(array, StoredArray) else array).dtype.kind in "iub"


def _check_held(array: Any, name: str, rows: _Rows) -> None:
    """Check that the integers of JAX, which are shorter by default, hold those of an array."""
    if isinstance(array, StoredArray) or array.dtype.kind == "b":
        return  # converted to floating-point numbers, or one bit
    from jax.dtypes import canonicalize_dtype

    own, held = np.iinfo(array.dtype), np.iinfo(canonicalize_dtype(array.dtype))
    if held.min <= own.min and own.max <= held.max:
        return
    wide = [((part < held.min) | (part > held.max)).reshape(len(part), -1).any(axis=1) for part in parts_of(array)]
    bad = np.concatenate(wide)
    if not bad.any():
        return
    row, where = rows.first(bad)
    value = next(int(one) for one in np.ravel(array[row]) if not held.min <= one <= held.max)
    raise DataError(
        f"{name} holds {value} in {where}, which {held.dtype} cannot hold.",
        "Use smaller integers or floating-point numbers, or enable jax_enable_x64.",
    )


def _finite(array: Array, name: str) -> NDArray[np.bool_]:
    try:
        return np.asarray(np.isfinite(array))
    except TypeError:  # strings, objects, dates
        raise DataError(f"{name} has dtype {array.dtype}, expected numbers.", "Convert it to float32.") from None


def _check_labels(x: Array, y: Array, n_classes: int, name: str, rows: _Rows) -> None:
    if y.shape != x.shape[: y.ndim]:
        raise DataError(
            f"{name} has shape {y.shape}, expected labels of shape ({len(y)},).",
            f"Use one label per example, or per position of the inputs {x.shape}, or class probabilities as floats of "
            f"shape ({len(y)}, {n_classes}).",
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"{name} has dtype {y.dtype}, expected integer labels 0..{n_classes - 1}.",
            "Use y.astype('int32'); for a regression, use classes=None.",
        )
    bad = (y < 0) | (y >= n_classes)
    if bad.any():
        row, where = rows.first(np.asarray(bad.reshape(len(y), -1).any(axis=1)))
        at = tuple(int(i) for i in np.argwhere(bad[row])[0])
        place = f"{where} at {at}" if at else where
        raise DataError(
            f"{name} holds label {y[row][at]} in {place}, outside the classes 0..{n_classes - 1}.",
            _label_hint(y, n_classes),
        )


def _label_hint(y: Array, n_classes: int) -> str:
    if y.min() == 1 and y.max() == n_classes:
        return "The labels count from 1: subtract 1."
    if y.min() < 0:
        return f"Number the classes 0..{n_classes - 1}."
    return f"Number the classes 0..{n_classes - 1}, or give the model {y.max() + 1} outputs."


def _check_input_shape(x: Array, expected: tuple[int, ...], name: str) -> None:
    if x.shape[1:] != expected:
        same_size = x[0].size == np.prod(expected, dtype=int)
        hint = f"Use x.reshape(-1, {', '.join(map(str, expected))})." if same_size else "The batch axis comes first."
        raise DataError(f"{name} has examples of shape {x.shape[1:]}, expected {expected}.", hint)


def _check_same_features(data: Dataset, name: str) -> None:
    train, test = getattr(data, f"{name}_train").shape[1:], getattr(data, f"{name}_test").shape[1:]
    if train != test:
        raise DataError(
            f"examples of {data.name} have shape {train} in {name}_train and {test} in {name}_test, expected the same.",
            "A model has one input and one output shape; bring both parts into it.",
        )


def _read_only(array: Any) -> Any:
    if isinstance(array, StoredArray):  # cannot be written to
        return array
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view

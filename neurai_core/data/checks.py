"""Checks of data sets and batches before any of them reaches a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurai_core.data.dataset import Dataset
from neurai_core.data.order import order, steps_per_epoch
from neurai_core.data.rows import Array, Rows, check_lengths
from neurai_core.errors import DataError
from neurai_core.stored import StoredArray, parts_of


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
    check_lengths(x_array, y_array, names)
    if input_shape is not None:
        _check_input_shape(x_array, tuple(input_shape), names[0])
    _check_values(x_array, y_array, n_classes, names, Rows())


def _check_part(data: Dataset, part: str, batch_size: int | None = None, seed: int | None = None) -> None:
    names = f"x_{part} of {data.name}", f"y_{part} of {data.name}"
    x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
    check_lengths(x, y, names)
    if batch_size is not None:
        steps_per_epoch(len(x), batch_size)
    sequence, epoch = (None, "") if seed is None else (order(seed, 0, len(x)), " of epoch 0")
    _check_values(x, y, data.n_classes, names, Rows(sequence, batch_size, epoch))


def _check_values(x: Array, y: Array, n_classes: int | None, names: tuple[str, str], rows: Rows) -> None:
    _check_numbers(x, names[0], rows)
    if n_classes is None or _are_probabilities(x, y, n_classes):
        _check_numbers(y, names[1], rows)
    else:
        _check_labels(x, y, n_classes, names[1], rows)


def _are_probabilities(x: Array, y: Array, n_classes: int) -> bool:
    """Whether targets are class probabilities, of each example or of each position of the inputs."""
    fit = y.ndim > 1 and y.shape[-1] == n_classes and y.shape[:-1] == x.shape[: y.ndim - 1]
    return fit and np.issubdtype(y.dtype, np.floating)


def _check_numbers(array: Array, name: str, rows: Rows) -> None:
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


def _check_held(array: Any, name: str, rows: Rows) -> None:
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


def _check_labels(x: Array, y: Array, n_classes: int, name: str, rows: Rows) -> None:
    if y.shape != x.shape[: y.ndim]:
        raise DataError(
            f"{name} has shape {y.shape}, expected labels of shape ({len(y)},).",
            "Whole numbers are labels; of one-hot rows, use y.argmax(axis=-1), or y.astype('float32')."
            if y.ndim > 1 and _one_hot(y)
            else f"Use one label per example, or per position of the inputs {x.shape}, or class probabilities as "
            f"floats of shape ({len(y)}, {n_classes}).",
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


def _one_hot(y: Array) -> bool:
    return y.shape[-1] > 1 and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=-1) == 1).all())


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

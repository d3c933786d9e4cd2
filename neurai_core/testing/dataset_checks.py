"""Checks of data sets: what is loaded is what the spec says, it is sound, and it is the same every time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from neurai_core.batched import BatchedData
from neurai_core.by_name import dataset
from neurai_core.data import Array, Dataset
from neurai_core.errors import DataError, MissingExtra, NeurAIError
from neurai_core.specs import DatasetSpec
from neurai_core.testing.checking import Broken, Measured, Skipped, Subject, check

PARTS = ("train", "test")


@dataclass(frozen=True, eq=False)
class DatasetSubject(Subject):
    """A data set with settings."""

    spec: DatasetSpec

    @property
    def data(self) -> Dataset:
        """The data, kept until another data set is checked.

        Raises:
            Skipped: it cannot be loaded, which the check ``loads`` reports.
        """
        try:
            return _loaded(self)
        except NeurAIError:
            raise Skipped("it does not load") from None

    def load(self) -> Dataset:
        """Load the data; nothing is downloaded for a check.

        Raises:
            Skipped: it needs settings that have no default, a library, or a download, or comes in batches.
        """
        fields = self.spec.config.model_fields
        needed = [name for name, one in fields.items() if one.is_required() and name not in self.settings]
        if needed:
            raise Skipped(f"needs {', '.join(needed)}: check_dataset({self.name!r}, settings={{{needed[0]!r}: ...}})")
        offline = {"download": False} if "download" in fields and "download" not in self.settings else {}
        try:
            found: Any = dataset(self.name, **{**offline, **self.settings})
            if isinstance(found, BatchedData):
                raise Skipped("it comes in batches, which are checked as they arrive")
            return cast(Dataset, found)
        except MissingExtra as error:
            raise Skipped(error.message) from None
        except DataError as error:
            if offline:
                raise Skipped(error.message) from None
            raise

    def stated(self, name: str) -> Any:
        """What the spec says of the default settings.

        Raises:
            Skipped: the spec leaves it to the files, or the settings are not the defaults.
        """
        value = getattr(self.spec, name)
        if value is None:
            raise Skipped(f"the spec leaves {name} open")
        fields = self.spec.config.model_fields
        if any(not fields[one].is_required() and one in fields for one in self.settings):
            raise Skipped(f"the spec states {name} for the default settings")
        return value


@check(hint="Return neurai_core.data.check(Dataset(...)), which names the field and the row that is wrong.")
def loads(subject: DatasetSubject) -> None:
    """It loads, and has rows to train and to test on, each with a target, and all of one shape."""
    data = _loaded(subject)
    for part, x, y in _parts(data):
        if not len(x) or len(x) != len(y):
            raise Broken(f"the {part} part has {len(x)} rows and {len(y)} targets, expected one target for each row")
    shapes = [x.shape[1:] for _, x, _ in _parts(data)]
    if shapes[0] != shapes[1]:
        raise Broken(f"examples have shape {shapes[0]} to train and {shapes[1]} to test")


@check(hint="Correct shape in the spec, the shape of one example, or leave it None if the files decide.")
def shape(subject: DatasetSubject) -> None:
    """An example has the shape that the spec states."""
    _equal("shape", subject.stated("shape"), subject.data.input_shape)


@check(hint="Correct dtype in the spec, or convert the inputs.")
def dtype(subject: DatasetSubject) -> None:
    """Inputs have the dtype that the spec states."""
    for _, x, _ in _parts(subject.data):
        _equal("dtype", subject.spec.dtype, str(x.dtype))


@check(hint="Correct classes in the spec, the names of labels 0, 1, ..., or leave it None if the files decide.")
def classes(subject: DatasetSubject) -> None:
    """The classes are those that the spec states."""
    _equal("classes", subject.stated("classes"), subject.data.classes)


@check(hint="Correct train and test in the spec, or leave them None if the files decide.")
def sizes(subject: DatasetSubject) -> None:
    """There are as many examples to train and to test on as the spec states."""
    for part, x, _ in _parts(subject.data):
        _equal(part, subject.stated(part), len(x))


@check(hint="Look for missing values and divisions by 0 in the files.")
def finite(subject: DatasetSubject) -> None:
    """Inputs and targets are finite."""
    for part, x, y in _parts(subject.data):
        for name, array in (("x", x), ("y", y)):
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(1)))
                raise Broken(f"{name}_{part} is not finite in row {row}")


@check(hint="Number the labels from 0, in the order of classes.")
def labels(subject: DatasetSubject) -> None:
    """Labels are integers or probabilities, and none is outside the classes."""
    count = subject.data.n_classes
    if count is None:
        raise Skipped("it has no classes")
    for part, _, y in _parts(subject.data):
        if not np.issubdtype(y.dtype, np.integer):
            if np.issubdtype(y.dtype, np.floating) and y.shape[-1] == count:
                continue  # class probabilities
            raise Broken(f"y_{part} has dtype {y.dtype}, expected integer labels or class probabilities")
        if y.min() < 0 or y.max() >= count:
            raise Broken(f"y_{part} has labels from {y.min()} to {y.max()}, expected 0 to {count - 1}")


@check(hint="Draw random numbers from a seed among the settings, and sort the names of files.")
def deterministic(subject: DatasetSubject) -> None:
    """Loaded twice, it is the same to the bit."""
    first, second = subject.data.sha256, subject.load().sha256
    if first != second:
        raise Broken(f"loaded twice, its hashes are {first[:12]} and {second[:12]}")


@check(hint="Leave the arrays of the Dataset as they are: the class makes them read-only.")
def read_only(subject: DatasetSubject) -> None:
    """Its arrays cannot be changed in place, so that its hash stays true."""
    for part, x, y in _parts(subject.data):
        for name, array in (("x", x), ("y", y)):
            if array.flags.writeable:
                raise Broken(f"{name}_{part} can be changed in place")


@check(hint="Draw training and test examples apart: a test row that was trained on tests nothing.")
def apart(subject: DatasetSubject) -> Measured:
    """At most one test row in a hundred is also a training row; told where rows are mostly unique."""
    train, test = (_rows(getattr(subject.data, f"x_{part}")) for part in PARTS)
    known = set(train)
    if len(known) < len(train) / 2:
        raise Skipped("rows repeat within the training part, so that shared rows mean nothing")
    return Measured(sum(row in known for row in test) / len(test), 0.01, where="test rows that are training rows")


@check(hint="Say in the spec where the data come from, how they are split, and under which license others made them.")
def terms(subject: DatasetSubject) -> None:
    """The spec says where the data come from, how they are split and, if it names their authors, their license.

    Every failure that it expects is that of a check.
    """
    subject.require_real_failures()
    for name in ("source", "split"):
        if not getattr(subject.spec, name):
            raise Broken(f"the spec states no {name}")
    if subject.spec.attribution and not subject.spec.license:
        raise Broken("the spec attributes the data to somebody and states no license")
    if subject.spec.license and subject.data.license != subject.spec.license:
        raise Broken(f"the spec states the license {subject.spec.license!r}, the data {subject.data.license!r}")


@lru_cache(maxsize=1)
def _loaded(subject: DatasetSubject) -> Dataset:
    return subject.load()


def _parts(data: Dataset) -> Iterator[tuple[str, Array, Array]]:
    for part in PARTS:
        yield part, getattr(data, f"x_{part}"), getattr(data, f"y_{part}")


def _rows(x: Array) -> list[int]:
    """One hash per row."""
    flat = np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))
    return [hash(row.tobytes()) for row in flat]


def _equal(name: str, stated: Any, found: Any) -> None:
    if stated != found:
        raise Broken(f"the spec states {name}={stated!r}, the data have {found!r}")


CHECKS = (loads, shape, dtype, classes, sizes, finite, labels, deterministic, read_only, apart, terms)

"""Training data that arrive in batches: from a list, a loader of another library, or a function of the epoch.

Every batch is a pair (x, y) of arrays and is checked when it arrives. The order is that of the iterable. A run resumes
in the middle of an epoch by passing over the batches that were done, so its bits are the same if the iterable repeats
an epoch; one that shuffles should be given as a function ``epoch -> iterable`` of the epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurai_core.arrays import Shape
from neurai_core.batched import BatchedData
from neurai_core.data import Dataset, check_batch, steps_per_epoch
from neurai_core.errors import DataError
from neurai_core.specs import Origin
from neurai_core.stored import StoredArray

Array = NDArray[Any]
_FORM = (
    "Give a pair (x, y) of arrays, or batches (x, y): a list, a loader, or a function epoch -> iterable of batches. "
    "Without targets, y is None."
)


class Batch(NamedTuple):
    """Inputs and targets, batch axis first."""

    x: Any
    y: Any


@dataclass(frozen=True, eq=False)
class Stream:
    """Training batches, and test data in memory; offers what a task asks of a `Dataset`.

    Attributes:
        name: for tables and errors.
        of_epoch: ``(epoch, start) -> iterable of batches`` from step ``start`` of the epoch on; epochs count from 0.
        first: the first batch, in the shapes that the model takes.
        shapes: shapes of one input and of one target as they arrive.
        epoch_steps: batches of an epoch.
        n_classes: number of classes; None for a regression, 0 for as many as the model has outputs.
        x_test: test inputs, (M, ...); M is 0 if there are none.
        y_test: test targets.
        origin: the plugin and settings of a data set by name.
        sha256: what it says to identify its data.
        ahead: whether a thread makes the batches, ahead of the step that needs them.
    """

    name: str
    of_epoch: Callable[[int, int], Iterable[Any]]
    first: Batch
    shapes: tuple[Shape, Shape]
    epoch_steps: int
    n_classes: int | None
    x_test: Array
    y_test: Array
    origin: Origin | None = None
    sha256: str = ""
    ahead: bool = False

    @property
    def input_shape(self) -> Shape:
        """Shape of one example, as the model takes it."""
        return self.first.x.shape[1:]

    @property
    def labeled(self) -> bool:
        """Whether there are targets."""
        return bool(self.first.y.size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, checked.

        Raises:
            DataError: a batch has other shapes than the first, holds NaN or labels outside the classes, or is missing.
        """
        found = start
        for step, given in enumerate(islice(self.of_epoch(epoch, start), self.epoch_steps - start), start):
            yield self._fitted(batch_of(given, f"batch {step} of epoch {epoch + 1}"), step, epoch)
            found = step + 1
        if found < self.epoch_steps:
            raise DataError(
                f"Epoch {epoch + 1} of {self.name} gave {found} batches, expected {self.epoch_steps}.",
                "An iterable must give as many in every epoch; a generator is used up after one.",
            )

    def _fitted(self, batch: Batch, step: int, epoch: int) -> Batch:
        where = f"batch {step} of epoch {epoch + 1}"
        check_batch(*batch, n_classes=self.n_classes, input_shape=self.shapes[0], where=where)
        if batch.y.shape[1:] != self.shapes[1]:
            raise DataError(f"y of {where} has targets of shape {batch.y.shape[1:]}, expected {self.shapes[1]}.")
        return Batch(*(one.reshape(len(one), *like.shape[1:]) for one, like in zip(batch, self.first, strict=True)))


Data = Dataset | Stream


def batch_of(given: Any, where: str) -> Batch:
    """A batch as arrays of NumPy; targets that are None, of a rule that learns without, are (B, 0).

    Raises:
        DataError: it is not a pair of arrays.

    >>> batch_of(([[1.0, 2.0]], [0]), "the batch").x.shape
    (1, 2)
    """
    if not (isinstance(given, tuple | list) and len(given) == 2):
        raise DataError(f"{where[:1].upper()}{where[1:]} is a {type(given).__name__}, expected the pair (x, y).", _FORM)
    x, y = given
    try:
        return Batch(
            x if isinstance(x, StoredArray) else np.asarray(x),
            np.zeros((len(x), 0), np.float32) if y is None else np.asarray(y),
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where[:1].upper()}{where[1:]} cannot be read as arrays: {error}.", _FORM) from error


def stream_of(
    given: Any, *, epochs: int, epoch_steps: int | None = None, classes: int | None = None, test: Batch | None = None
) -> Stream:
    """Training data from an iterable of batches, or a function ``epoch -> iterable``.

    Args:
        given: the iterable. A generator, which can be gone through once, serves one epoch.
        epochs: how often it will be gone through.
        epoch_steps: batches of an epoch; None takes its length, or goes through it once to count.
        classes: number of classes; None leaves it to the model.
        test: test data.

    Raises:
        DataError: it yields nothing, or no pairs of arrays, or only once although there are several epochs.

    >>> batches = [(np.zeros((4, 2), np.float32), np.zeros(4, np.int32))] * 3
    >>> found = stream_of(batches, epochs=2, classes=2)
    >>> found.epoch_steps, found.first.x.shape, len(list(found.batches(1)))
    (3, (4, 2), 3)
    """
    of_epoch, epoch_steps = _by_epoch(given, epochs, epoch_steps)
    opened = iter(of_epoch(0))
    head = next(opened, None)
    if head is None:
        raise DataError("The training data hold no batch.", "At least one is needed.")
    first = batch_of(head, "batch 0 of epoch 1")
    check_batch(*first, where="batch 0 of epoch 1")
    if epoch_steps is None:
        epoch_steps = 1 + sum(1 for _ in opened)
    else:
        of_epoch = _continued(of_epoch, head, opened)  # nothing is read twice, and no loader is started in vain
    nothing = Batch(first.x[:0], first.y[:0])
    return Stream(
        name="batches",
        of_epoch=lambda epoch, start: islice(of_epoch(epoch), start, None),
        first=first,
        shapes=(first.x.shape[1:], first.y.shape[1:]),
        epoch_steps=epoch_steps,
        n_classes=_classes(first) if classes is None else classes,
        x_test=(test or nothing).x,
        y_test=(test or nothing).y,
    )


def stream_of_data(data: BatchedData, *, epochs: int, seed: int, batch_size: int) -> Stream:
    """The batches of a data set, in the order of a run.

    Args:
        data: the data set.
        epochs: how often it will be gone through.
        seed: of the run, for a data set that takes it.
        batch_size: of the run, for a data set that takes it.

    Raises:
        DataError: as for `stream_of`, or the test data are invalid.

    >>> data = BatchedData("mine", [(np.zeros((4, 2), np.float32), np.zeros(4, np.int32))] * 3, classes=("a", "b"))
    >>> stream_of_data(data, epochs=2, seed=0, batch_size=64).epoch_steps
    3
    """

    def of_epoch(epoch: int, start: int = 0) -> Iterable[Any]:
        return data.of_epoch(epoch, seed=seed, batch_size=batch_size, start=start)

    test = None if data.x_test is None else batch_of((data.x_test, data.y_test), f"the test data of {data.name}")
    given = of_epoch if data.is_function else data.train
    classes = None if data.classes is None else len(data.classes)
    found = stream_of(given, epochs=epochs, epoch_steps=data.epoch_steps(batch_size), classes=classes, test=test)
    if test is not None:
        like = found.first.x.shape[1:]
        check_batch(*test, n_classes=classes, input_shape=like, where=f"the test data of {data.name}")
    named = replace(found, name=data.name, origin=data.origin, sha256=data.sha256, ahead=True)
    if not data.takes("start"):
        return named
    return replace(named, of_epoch=lambda epoch, start: of_epoch(epoch, start) if start else found.of_epoch(epoch, 0))


def steps_of(data: Data, batch_size: int) -> int:
    """Steps of one epoch."""
    return data.epoch_steps if isinstance(data, Stream) else steps_per_epoch(len(data.x_train), batch_size)


def example_of(data: Data, batch_size: int) -> Batch:
    """A batch of the data, for its shapes and dtypes."""
    return data.first if isinstance(data, Stream) else Batch(data.x_train[:batch_size], data.y_train[:batch_size])


def reshaped(data: Any, name: str, shape: Shape) -> Any:
    """The data with inputs ``x`` or targets ``y`` of another shape."""
    held = ("test",) if isinstance(data, Stream) else ("train", "test")
    parts = {f"{name}_{part}": getattr(data, f"{name}_{part}") for part in held}
    changes: dict[str, Any] = {key: array.reshape(len(array), *shape) for key, array in parts.items()}
    if isinstance(data, Stream):
        one = getattr(data.first, name)
        changes["first"] = data.first._replace(**{name: one.reshape(len(one), *shape)})
    return replace(data, **changes)


def _by_epoch(given: Any, epochs: int, steps: int | None) -> tuple[Callable[[int], Iterable[Any]], int | None]:
    """The batches as a function of the epoch, and how many there are, if that is known."""
    if callable(given) and not hasattr(given, "__iter__"):
        return given, steps if steps is not None else _length(given(0))
    if not hasattr(given, "__iter__"):
        raise DataError(f"The training data are a {type(given).__name__}.", _FORM)
    once = hasattr(given, "__next__")
    if once and epochs > 1:
        raise DataError(
            f"The training data are a {type(given).__name__}, which can be iterated over only once, but {epochs} "
            "epochs were requested.",
            "Give a function that makes a new one, lambda epoch: ..., or a list.",
        )
    if once and steps is None:
        given = list(given)  # a schedule needs to know how many there are
    return lambda epoch: given, steps if steps is not None else _length(given)


def _classes(first: Batch) -> int | None:
    """Whole numbers, one for every example or position of the inputs, are labels."""
    return 0 if np.issubdtype(first.y.dtype, np.integer) and first.y.shape == first.x.shape[: first.y.ndim] else None


def _length(given: Any) -> int | None:
    try:
        return len(given)
    except TypeError:
        return None


def _continued(of_epoch: Callable[[int], Iterable[Any]], head: Any, opened: Iterator[Any]) -> Callable[..., Any]:
    """The same batches; the first call for epoch 0 continues the iterator that is already open."""
    left = [chain([head], opened)]
    return lambda epoch: left.pop() if epoch == 0 and left else of_epoch(epoch)

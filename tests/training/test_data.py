"""Unfit data are refused with the field and the row, and the data order depends on nothing hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.data import (
    Dataset,
    batches,
    check,
    check_batch,
    numbered_classes,
    order,
    steps_per_epoch,
)
from neurai_core.errors import DataError
from neurai_core.specs import Origin


def make(**changed: Any) -> Dataset:
    """Twelve training and six test examples of shape (2, 3) in three classes."""
    x = np.arange(18 * 6, dtype=np.float32).reshape(18, 2, 3) / 100
    y = np.arange(18, dtype=np.int32) % 3
    data = Dataset("toy", x[:12], y[:12], x[12:], y[12:], classes=("a", "b", "c"), license="CC0-1.0")
    return replace(data, **changed)


def with_entry(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


def test_a_sound_data_set_passes_and_knows_its_shape_and_classes():
    data = make()
    assert check(data, batch_size=4, seed=0) is data
    assert data.input_shape == (2, 3)
    assert data.n_classes == 3


def test_a_regression_has_no_classes():
    data = make(classes=None, y_train=np.zeros((12, 2)), y_test=np.zeros((6, 2)))
    assert check(data).n_classes is None


def test_targets_may_be_class_probabilities():
    check(make(y_train=np.full((12, 3), 1 / 3), y_test=np.full((6, 3), 1 / 3)))


def test_the_hash_is_the_same_for_the_same_data_and_another_name():
    assert make().sha256 == make(name="other").sha256


@pytest.mark.parametrize(
    "changed",
    [
        {"x_train": with_entry(make().x_train, (3, 1, 2), 7.0)},
        {"x_train": make().x_train.astype(np.float64)},
        {"x_train": make().x_train.reshape(12, 6)},
        {"y_test": make().y_test[::-1]},
        {"x_train": make().x_test, "x_test": make().x_train},
    ],
    ids=["value", "dtype", "shape", "order", "exchanged parts"],
)
def test_the_hash_sees_every_change_of_the_arrays(changed: dict[str, Any]):
    assert make(**changed).sha256 != make().sha256


def test_the_hash_does_not_depend_on_the_memory_layout():
    data = make()
    assert make(x_train=np.asfortranarray(data.x_train)).sha256 == data.sha256


def test_arrays_cannot_be_changed_behind_the_hash():
    data = make()
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 1.0


def test_the_arrays_that_were_given_stay_writable():
    x = np.zeros((12, 2, 3), np.float32)
    make(x_train=x)
    x[0] = 1.0


def test_a_data_set_with_an_origin_is_otherwise_the_same():
    origin = Origin(kind="dataset", name="toy", distribution="mine", version="1.0")
    data = make().with_origin(origin)
    assert data.origin == origin
    assert data.sha256 == make().sha256


def test_printing_a_data_set_does_not_print_its_arrays():
    assert repr(make()) == "Dataset(name='toy', classes=('a', 'b', 'c'), license='CC0-1.0')"


BAD = {
    "empty training set": (
        {"x_train": np.zeros((0, 2, 3)), "y_train": np.zeros(0, int)},
        r"x_train of toy is empty: its shape is \(0, 2, 3\)",
    ),
    "empty test set": (
        {"x_test": np.zeros((0, 2, 3)), "y_test": np.zeros(0, int)},
        "x_test of toy is empty",
    ),
    "examples without features": ({"x_train": np.zeros((12, 0))}, "x_train of toy is empty"),
    "different lengths": (
        {"y_train": np.zeros(11, int)},
        "x_train of toy has 12 rows and y_train of toy has 11",
    ),
    "no batch axis": ({"x_test": np.float32(1)}, "x_test of toy is a single number"),
    "nan": (
        {"x_train": with_entry(make().x_train, (7, 1, 2), np.nan)},
        r"x_train of toy holds nan in row 7 at \(1, 2\)",
    ),
    "inf": (
        {"x_test": with_entry(make().x_test, (0, 0, 1), -np.inf)},
        r"x_test of toy holds -inf in row 0 at \(0, 1\)",
    ),
    "nan in a regression target": (
        {"classes": None, "y_train": with_entry(np.zeros(12), 5, np.nan), "y_test": np.zeros(6)},
        "y_train of toy holds nan in row 5,",
    ),
    "text": ({"x_train": np.full((12, 2, 3), "a")}, "x_train of toy has dtype <U1, expected numbers"),
    "objects": ({"x_train": np.full((12, 2, 3), None)}, "x_train of toy has dtype object, expected numbers"),
    "label above the classes": (
        {"y_train": with_entry(make().y_train, 4, 3)},
        r"y_train of toy holds label 3 in row 4, outside the classes 0\.\.2",
    ),
    "label below the classes": (
        {"y_test": with_entry(make().y_test, 2, -1)},
        r"y_test of toy holds label -1 in row 2, outside the classes 0\.\.2",
    ),
    "labels that count from 1": ({"y_train": make().y_train + 1}, "subtract 1"),
    "float labels": (
        {"y_train": make().y_train.astype(np.float32)},
        r"y_train of toy has dtype float32, expected integer labels 0\.\.2",
    ),
    "boolean labels": ({"y_train": make().y_train > 0}, "y_train of toy has dtype bool, expected integer"),
    "labels with an axis of one": (
        {"y_train": make().y_train[:, None]},
        r"y_train of toy has shape \(12, 1\), expected labels of shape \(12,\)",
    ),
    "labels as rows of zeros and a one": (
        {"y_train": np.eye(3, dtype=int)[make().y_train]},
        r"of one-hot rows, use y\.argmax\(axis=-1\)",
    ),
    "a label outside the classes at a position": (
        {"y_train": with_entry(np.zeros((12, 2), int), (4, 1), 3), "y_test": np.zeros((6, 2), int)},
        r"y_train of toy holds label 3 in row 4 at \(1,\), outside the classes 0\.\.2",
    ),
    "other features in the test set": (
        {"x_test": np.zeros((6, 6), np.float32)},
        r"examples of toy have shape \(2, 3\) in x_train and \(6,\) in x_test",
    ),
    "other targets in the test set": (
        {"classes": None, "y_train": np.zeros((12, 2)), "y_test": np.zeros((6, 1))},
        r"shape \(2,\) in y_train and \(1,\) in y_test",
    ),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_bad_data_are_refused_by_field_and_row(changed: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as caught:
        check(make(**changed))
    assert caught.value.hint


@pytest.mark.parametrize("more", [(), (3,)], ids=["labels", "probabilities"])
def test_every_position_of_the_inputs_may_have_a_target(more: tuple[int, ...]):
    y_train, y_test = (np.full((n, 2, *more), 1 / 3 if more else 2) for n in (12, 6))
    data = make(y_train=y_train, y_test=y_test)
    assert check(data) is data


def test_a_bad_row_is_named_with_its_batch():
    data = make(x_train=with_entry(make().x_train, (7, 0, 0), np.nan))
    with pytest.raises(DataError, match=r"nan in row 7 \(batch 1\) at"):
        check(data, batch_size=4)


def test_the_first_bad_row_is_the_one_that_training_meets_first():
    rows = order(seed=5, epoch=0, n=12)
    late, early = int(rows[9]), int(rows[2])
    x = with_entry(with_entry(make().x_train, (late, 0, 0), np.nan), (early, 0, 0), np.inf)
    with pytest.raises(DataError, match=rf"holds inf in row {early} \(batch 0 of epoch 0\)"):
        check(make(x_train=x), batch_size=4, seed=5)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(0, "batch_size=0 holds no rows"), (-3, "batch_size=-3"), (13, "larger than the 12 rows")],
)
def test_a_batch_size_that_does_not_fit_is_refused_with_the_number_of_rows(batch_size: int, message: str):
    with pytest.raises(DataError, match=message) as caught:
        check(make(), batch_size=batch_size)
    assert "1..12" in caught.value.hint


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_a_sound_batch_passes(array: Any):
    check_batch(array([[1.0, 2.0]]), array([1]), n_classes=2, input_shape=(2,))
    check_batch(array([[1.0, 2.0]]), array([[0.5]]))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "x of the batch is empty"),
        (np.zeros((3, 2)), np.zeros(2, int), "x of the batch has 3 rows and y of the batch has 2"),
        (np.array([[0, 0], [0, np.nan]]), np.zeros(2, int), r"x of the batch holds nan in row 1 at \(1,\)"),
        (np.zeros((2, 2)), np.array([1, 2]), "y of the batch holds label 2 in row 1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "y of the batch has dtype float"),
        (np.zeros((2, 1, 2)), np.array([0, 1]), r"examples of shape \(1, 2\), expected \(2,\)"),
    ],
    ids=["empty", "lengths", "nan", "label", "float label", "feature shape"],
)
def test_a_bad_batch_is_refused(array: Any, x: np.ndarray, y: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        check_batch(array(x), array(y), n_classes=2, input_shape=(2,))


def test_flat_images_get_the_reshape_that_helps():
    with pytest.raises(DataError, match=r"x\.reshape\(-1, 8, 8, 1\)"):
        check_batch(np.zeros((5, 64)), np.zeros(5, int), input_shape=(8, 8, 1))


def test_a_batch_is_called_what_the_caller_calls_it():
    with pytest.raises(DataError, match="x of batch 3 of epoch 1 is empty"):
        check_batch(np.zeros((0, 2)), np.zeros(0), where="batch 3 of epoch 1")


def test_bfloat16_data_are_checked_too():
    with pytest.raises(DataError, match="holds nan in row 1"):
        check_batch(jnp.array([[0.0], [jnp.nan]], jnp.bfloat16), np.zeros(2, int))


def test_the_order_is_a_permutation_that_seed_and_epoch_decide():
    assert sorted(order(3, 2, 50)) == list(range(50))
    assert (order(3, 2, 50) == order(3, 2, 50)).all()
    assert (order(3, 2, 50) != order(3, 1, 50)).any()
    assert (order(3, 2, 50) != order(4, 2, 50)).any()


def test_the_order_is_the_stated_one():
    assert (order(3, 2, 50) == np.random.default_rng([3, 2]).permutation(50)).all()


def test_a_seed_below_zero_is_refused():
    with pytest.raises(DataError, match="seed=-1"):
        order(-1, 0, 5)


def test_x_and_y_stay_together_in_batches():
    data = make()
    for x, y in batches(data.x_train, data.y_train, 4, seed=0, epoch=3):
        rows = np.round(x[:, 0, 0] * 100 / 6).astype(int)
        assert (y == rows % 3).all()


def test_a_run_resumed_at_any_step_sees_the_same_batches():
    x, y = np.arange(23.0)[:, None], np.arange(23)
    whole = [targets.tolist() for _, targets in batches(x, y, 5, seed=1, epoch=7)]
    for start in range(5):
        rest = [targets.tolist() for _, targets in batches(x, y, 5, seed=1, epoch=7, start=start)]
        assert rest == whole[start:]


def test_every_training_batch_has_one_shape():
    x, y = np.arange(23.0)[:, None], np.arange(23)
    shapes = {inputs.shape for inputs, _ in batches(x, y, 5, seed=0, epoch=0)}
    assert shapes == {(5, 1)}


def test_rows_left_out_of_one_epoch_come_in_others():
    x, y = np.arange(23.0)[:, None], np.arange(23)
    seen = [{int(t) for _, targets in batches(x, y, 5, seed=0, epoch=epoch) for t in targets} for epoch in range(4)]
    assert all(len(rows) == 20 for rows in seen)
    assert set.union(*seen) == set(range(23))


def test_without_drop_last_every_row_comes_once():
    x, y = np.arange(23.0)[:, None], np.arange(23)
    parts = [targets for _, targets in batches(x, y, 5, seed=0, epoch=0, drop_last=False)]
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    assert sorted(np.concatenate(parts)) == list(range(23))


def test_without_drop_last_a_batch_may_be_larger_than_the_data():
    assert steps_per_epoch(3, 100, drop_last=False) == 1


@pytest.mark.parametrize("batch_size", [0, 6])
def test_batches_are_refused_at_the_call_not_at_the_first_batch(batch_size: int):
    with pytest.raises(DataError, match=r"batch_size=\d"):
        batches(np.zeros((5, 1)), np.zeros(5), batch_size, seed=0, epoch=0)


def test_batches_of_x_and_y_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="x has 5 rows and y has 4"):
        batches(np.zeros((5, 1)), np.zeros(4), 2, seed=0, epoch=0)


@pytest.mark.parametrize("start", [-1, 3])
def test_a_start_outside_the_epoch_is_refused(start: int):
    with pytest.raises(DataError, match=f"start={start} lies outside the 2 steps"):
        batches(np.zeros((5, 1)), np.zeros(5), 2, seed=0, epoch=0, start=start)


def test_starting_after_the_last_step_delivers_nothing():
    assert list(batches(np.zeros((5, 1)), np.zeros(5), 2, seed=0, epoch=0, start=2)) == []


def test_numbers_that_are_no_class_numbers_are_refused():
    with pytest.raises(DataError, match="run from 0 to 1000000000 in only 3 rows"):
        numbered_classes("ids", np.array([0, 5, 10**9]))

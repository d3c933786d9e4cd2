"""Training as a pure function: the same bits as a loop written by hand, in one piece or in many."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neurai_core.data import batches, order
from neurai_core.errors import DataError, PluginError, RisingEnergy
from neurai_core.rule import State
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.evaluation import evaluate
from neurai_core.training.loop import NotFinite, Trained, train_task
from neurai_core.training.settings import choose
from neurai_core.training.step import restored, saved
from neurai_core.training.task import Task, prepare

SMALL = {"rule": "bp", "model": "mlp:8", "epochs": 2, "batch_size": 100}


@pytest.fixture(scope="module")
def task() -> Task:
    return prepare(choose(SMALL, environ={}))


@pytest.fixture(scope="module")
def whole(task: Task) -> Trained:
    return train_task(task)


def assert_same_bits(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def by_hand(task: Task, steps: int) -> list[Any]:
    """The parameters before every step and after the last, from a plain loop over `batches`."""

    @jax.jit
    def step(params, opt_state, x, y):
        def loss(params):
            return task.score.loss(task.model(params, x), y)[0]

        updates, opt_state = task.optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = task.params, task.optimizer.init(task.params)
    seen = [params]
    for number in range(steps):
        epoch, start = divmod(number, task.epoch_steps)
        data = task.data
        x, y = next(batches(data.x_train, data.y_train, task.batch_size, task.seed, epoch, start))
        params, opt_state = step(params, opt_state, x, y)
        seen.append(params)
    return seen


def close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), one, other)


def test_training_is_the_plain_loop_over_the_batches(task: Task, whole: Trained) -> None:
    close(whole.progress.params, by_hand(task, task.steps)[-1])
    assert int(whole.progress.step) == task.steps == 28


def test_training_twice_gives_the_same_bits(task: Task, whole: Trained) -> None:
    assert_same_bits(train_task(task).progress, whole.progress)


def test_stopping_anywhere_and_going_on_gives_the_same_bits(task: Task, whole: Trained) -> None:
    asked = iter([False, False, False, True])
    half = train_task(task, callbacks=Callbacks(stop=lambda: next(asked)))
    assert half.stopped
    assert 0 < int(half.progress.step) < task.steps
    rest = train_task(task, restored(task, saved(half.progress)))
    assert_same_bits(rest.progress._replace(last_finite=()), whole.progress._replace(last_finite=()))
    assert rest.rows[-1].values == whole.rows[-1].values


def test_observers_see_every_step_and_change_no_bit(task: Task, whole: Trained) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    notify = lambda hook, **arguments: told.append((hook, arguments))  # noqa: E731
    watched = train_task(task, callbacks=Callbacks(notify=notify, watch_steps=True))
    assert_same_bits(watched.progress, whole.progress)
    after = [arguments for hook, arguments in told if hook == "neurai_after_step"]
    assert [one["step"] for one in after] == list(range(task.steps))
    assert [hook for hook, _ in told].count("neurai_before_step") == task.steps
    assert [one["epoch"] for hook, one in told if hook.endswith("_epoch")] == [1, 1, 2, 2]
    assert {one["epoch"] for one in after[: task.epoch_steps]} == {1}
    metrics = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    assert told[0] == ("neurai_before_run", {"history": (), "metrics": metrics, "folder": None})
    assert tuple(watched.rows[0].values) == metrics
    assert told[-1] == ("neurai_after_run", {"finished": True})
    first_epoch = np.mean([one["loss"] for one in after[: task.epoch_steps]])
    np.testing.assert_allclose(watched.rows[0].values["train_loss"], first_epoch, rtol=1e-6)


@pytest.mark.parametrize(
    ("hook", "done"), [("neurai_before_run", 0), ("neurai_after_step", 4), ("neurai_after_epoch", 14)]
)
def test_an_observer_stops_training_and_what_follows_has_the_same_bits(
    task: Task, whole: Trained, hook: str, done: int
) -> None:
    def enough(called: str, *, step: int = 3, **arguments: Any) -> str | None:
        return "enough" if called == hook and step == 3 else None

    half = train_task(task, callbacks=Callbacks(notify=enough, watch_steps=hook == "neurai_after_step"))
    assert (half.stopped, half.reason, int(half.progress.step)) == (True, "enough", done)
    assert [row.epoch for row in half.rows] == [1] * (done // task.epoch_steps)
    rest = train_task(task, restored(task, saved(half.progress)))
    assert_same_bits(rest.progress._replace(last_finite=()), whole.progress._replace(last_finite=()))
    assert rest.rows[-1].values == whole.rows[-1].values


def test_a_reason_to_stop_at_the_end_stops_nothing(task: Task) -> None:
    whole = train_task(
        replace(task, epochs=1), callbacks=Callbacks(notify=lambda hook, **_: "enough" * (hook == "neurai_after_epoch"))
    )
    assert (whole.stopped, whole.reason) == (False, "")


def test_the_rule_is_traced_as_often_for_many_epochs_as_for_one(task: Task) -> None:
    def traces(epochs: int) -> int:
        calls = []

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return task.rule.estimate(*args, **kwargs)

        train_task(replace(task, rule=task.rule._replace(estimate=counted), epochs=epochs))
        return len(calls)

    assert traces(2) == traces(1)


def poisoned(task: Task, row: int) -> Task:
    """A task whose loss is NaN in the batch that holds a row of the training set."""
    x = np.array(task.data.x_train)
    x[row] = 1e4
    data = replace(task.data, x_train=x)

    def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
        found, state = task.rule.estimate(model, params, state, batch, key=key)
        return found._replace(loss=jnp.where(batch[0].max() > 1e3, jnp.nan, found.loss)), state

    return replace(task, data=data, rule=task.rule._replace(estimate=estimate))


def test_a_loss_that_is_not_finite_stops_at_its_very_step_and_keeps_the_last_good_parameters(task: Task) -> None:
    row = int(order(task.seed, 0, len(task.data.x_train))[7 * task.batch_size + 3])  # in the batch of step 7
    bad = poisoned(task, row)
    with pytest.raises(NotFinite, match="training loss was not finite at step 7") as caught:
        train_task(bad)
    assert caught.value.step == 7
    close(caught.value.last_finite.params, by_hand(bad, 7)[6])  # those of step 6, the last with a finite loss


def test_parameters_that_explode_in_the_last_step_are_noticed_by_the_test_loss(task: Task) -> None:
    exploding = replace(task, optimizer=optax.sgd(1e38), epochs=1, batch_size=len(task.data.x_train))
    with pytest.raises(NotFinite, match="test loss") as caught:
        train_task(exploding)
    assert_same_bits(caught.value.last_finite.params, task.params)


def test_a_rule_whose_state_changes_its_shape_is_named(task: Task) -> None:
    def growing(model: Any, params: Any, state: State, batch: Any, *, key: Any = None) -> Any:
        found, _ = task.rule.estimate(model, params, (), batch, key=key)
        return found, State((), jnp.zeros(state.own.shape[0] + 1))

    rule = task.rule._replace(init=lambda *_, **__: State((), jnp.zeros(1)), estimate=growing)
    with pytest.raises(PluginError, match=r"'bp' .*turned the state .*\[1\].* into .*\[2\]"):
        train_task(replace(task, rule=rule))


def test_scalars_that_a_rule_reports_become_means_over_the_epoch(task: Task) -> None:
    def reporting(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
        found, count = task.rule.estimate(model, params, (), batch, key=key)[0], state.own
        return found._replace(aux={"energy": count, "activity": batch[0]}), State((), count + 1)

    rule = task.rule._replace(
        init=lambda *_, **__: State((), jnp.zeros(())), estimate=reporting, predict=lambda m, p, x, s: m(p, x)
    )
    row = train_task(replace(task, rule=rule, epochs=1)).rows[0]
    assert row.values["aux/energy"] == np.mean(np.arange(task.epoch_steps))
    assert "aux/activity" not in row.values


@pytest.mark.few(2)
@pytest.mark.parametrize(("change", "times"), [(-1.0, 0), (0.0, 0), (1.0, 1), (float("nan"), 1)])
def test_a_relaxation_that_goes_uphill_is_warned_of_once(task: Task, change: float, times: int) -> None:
    def rising(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
        found, state = task.rule.estimate(model, params, state, batch, key=key)
        return found._replace(aux={"energy_change": change}), state

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        train_task(replace(task, rule=task.rule._replace(estimate=rising)))
    assert [one.category for one in seen] == times * [RisingEnergy]


def test_the_key_of_a_stochastic_step_depends_on_seed_and_step_alone(task: Task) -> None:
    def drawing(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
        found, _ = task.rule.estimate(model, params, state, batch, key=key)
        return found._replace(aux={"draw": jax.random.uniform(key)}), state

    drawn = replace(task, rule=task.rule._replace(estimate=drawing))
    means = [[row.values["aux/draw"] for row in train_task(replace(drawn, seed=seed)).rows] for seed in (0, 1)]
    assert means[0] != means[1]
    assert means[0][0] != means[0][1]


def test_the_test_loss_is_the_mean_over_the_test_set_whatever_the_batch_size(task: Task) -> None:
    x, y = task.data.x_test, task.data.y_test
    outputs = task.model(task.params, x)
    for batch_size in (7, 360, 1000):
        loss, accuracy = evaluate(replace(task, batch_size=batch_size), task.params, ())
        np.testing.assert_allclose(loss, task.score.loss(outputs, y)[0], rtol=1e-5)
        np.testing.assert_allclose(accuracy, task.score.accuracy(outputs, y), rtol=1e-6)


def test_a_loss_that_sums_over_the_batch_is_reported_per_batch_on_both_parts(task: Task) -> None:
    summed = prepare(choose({**SMALL, "loss": "sum_cross_entropy"}, environ={}))
    mean, _ = evaluate(task, task.params, ())
    total, _ = evaluate(replace(summed, batch_size=120), task.params, ())  # 360 rows are three whole batches
    np.testing.assert_allclose(total, 120 * mean, rtol=1e-5)


def test_the_tasks_own_parameters_outlive_training(task: Task, whole: Trained) -> None:
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(task.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(task.params))


@pytest.mark.parametrize("part", ["train", "test"])
def test_targets_that_the_loss_does_not_take_are_refused_before_the_first_step(tmp_path: Any, part: str) -> None:
    numbers = {f"{name}_{half}": np.zeros((4, 2)) for name in "xy" for half in ("train", "test")}
    numbers[f"y_{part}"][3, 1] = -1
    np.savez(tmp_path / "t.npz", **numbers)
    settings = {"data": f"npz:{tmp_path / 't.npz'}", "loss": "binary_cross_entropy", "model": "mlp:2", "batch_size": 2}
    with pytest.raises(DataError, match=r"binary_cross_entropy got target -1\.0 in row 3"):
        prepare(choose(settings, environ={}))


def test_a_regression_trains_without_an_accuracy(tmp_path: Any) -> None:
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x_train=x, y_train=x @ np.ones(3, "f"), x_test=x[:8], y_test=x[:8] @ np.ones(3, "f"))
    task = prepare(choose({"data": f"npz:{tmp_path / 'r.npz'}", "model": "mlp:16", "lr": 0.03}, environ={}))
    assert task.loss_name == "mse"
    assert task.data.y_train.shape == (64, 1)
    rows = train_task(task).rows
    assert rows[-1].values["test_loss"] < 0.5 * rows[0].values["test_loss"]
    assert "test_accuracy" not in rows[0].values

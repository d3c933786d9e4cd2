"""`neurai.fit`: the loop of the command, for names and objects."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.data import batches
from neurai_core.errors import DataError, OutputError, SettingsError, UsageError
from neurai_core.training.run import train
from neurai_core.training.settings import choose

pytestmark = pytest.mark.contract

DATA = neurai.dataset("digits")
X, Y = DATA.x_train.reshape(-1, 64)[:200], DATA.y_train[:200]
MODEL = neurai.models.mlp((64, 8, 10))
PARAMS, _ = MODEL.init(jax.random.key(0), (64,))
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 50, "lr": 1e-2}


def same_bits(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def without_times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "step_ms"} for row in rows]


@pytest.fixture(scope="module")
def fitted() -> neurai.Fitted:
    return neurai.fit("bp", MODEL, PARAMS, (X, Y), **SMALL)


def test_names_alone_are_the_command(tmp_path: Path) -> None:
    chosen = choose({"rule": "bp", "model": "mlp:8", "epochs": 1, "seed": 3}, environ={})
    result = train(chosen, tmp_path / "command")
    fitted = neurai.fit("bp", "mlp:8", None, "digits", epochs=1, seed=3, out=tmp_path / "python")
    for name in ("params.safetensors", "config.toml"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert fitted.metrics[-1]["test_loss"] == result["test_loss"]


def test_a_folder_changes_no_bit(fitted: neurai.Fitted, tmp_path: Path) -> None:
    kept = neurai.fit("bp", MODEL, PARAMS, (X, Y), **SMALL, out=tmp_path / "run")
    same_bits(kept.params, fitted.params)
    assert without_times(kept.metrics) == without_times(fitted.metrics)
    assert kept.run == tmp_path / "run"
    assert fitted.run is None


def test_the_parameters_that_were_given_are_kept(fitted: neurai.Fitted) -> None:
    same_bits(PARAMS, MODEL.init(jax.random.key(0), (64,))[0])
    assert jax.tree.structure(fitted.params) == jax.tree.structure(PARAMS)


def by_epoch(epoch: int) -> Iterator[Any]:
    return batches(X, Y, 50, 0, epoch)


def test_batches_in_the_order_of_arrays_train_the_same_network(fitted: neurai.Fitted) -> None:
    streamed = neurai.fit("bp", MODEL, PARAMS, by_epoch, steps_per_epoch=4, **SMALL)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), streamed.params, fitted.params)
    assert streamed.steps == fitted.steps == 8
    assert [*streamed.metrics[0]] == ["epoch", "step", "train_loss", "train_accuracy", "step_ms"]


class Loader:
    """As loaders of other libraries are: a length, and an iterator for every epoch."""

    def __init__(self) -> None:
        self.opened = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        self.opened += 1
        return by_epoch(self.opened - 1)


def test_a_loader_is_opened_once_per_epoch(fitted: neurai.Fitted) -> None:
    loader = Loader()
    streamed = neurai.fit("bp", MODEL, PARAMS, loader, test=[(X[:30], Y[:30]), (X[30:50], Y[30:50])], **SMALL)
    assert loader.opened == 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), streamed.params, fitted.params)
    expected = np.mean(np.argmax(streamed.predict(X[:50]), axis=1) == Y[:50])
    assert streamed.metrics[-1]["test_accuracy"] == pytest.approx(expected)


def test_a_last_batch_may_be_shorter() -> None:
    uneven = [(X[:64], Y[:64]), (X[64:100], Y[64:100])]
    assert neurai.fit("bp", MODEL, PARAMS, uneven, epochs=2).steps == 4


def test_a_generator_serves_one_epoch_and_no_more() -> None:
    assert neurai.fit("bp", MODEL, PARAMS, by_epoch(0), epochs=1).steps == 4
    with pytest.raises(DataError, match=r"generator, which can be iterated over only once, but 2 epochs"):
        neurai.fit("bp", MODEL, PARAMS, ((X, Y) for _ in range(3)), epochs=2)


def test_a_rule_made_by_hand_an_optimizer_and_a_loss_of_ones_own() -> None:
    named = neurai.algorithm("bp", loss="mse", accuracy="accuracy")
    rule = neurai.Rule(named.init, named.estimate, named.predict)
    fitted = neurai.fit(rule, MODEL, PARAMS, (X, Y), optimizer=optax.sgd(0.1), loss="mse", epochs=1, batch_size=50)
    same = neurai.fit(
        named, MODEL, PARAMS, (X, Y), optimizer="sgd", lr=0.1, schedule="constant", epochs=1, batch_size=50
    )
    same_bits(fitted.params, same.params)
    assert "train_accuracy" in fitted.metrics[0]


def test_a_callable_with_a_rule_that_takes_networks() -> None:
    def net(params: Any, x: Any) -> Any:
        return neurai.activity(jax.nn.tanh(x @ params[0]), "h") @ params[1]

    params = [PARAMS[0]["w"], PARAMS[1]["w"]]
    fitted = neurai.fit("pc", net, params, (X, Y), settings={"n": 3}, activities="named", **SMALL)
    assert fitted.metrics[1]["train_loss"] < fitted.metrics[0]["train_loss"]


def test_a_regression_has_no_accuracy() -> None:
    fitted = neurai.fit("bp", neurai.models.mlp((64, 1)), None, (X, X[:, 0]), test=(X, X[:, 0]), epochs=1)
    assert [*fitted.metrics[0]] == ["epoch", "step", "train_loss", "test_loss", "step_ms"]


def test_an_observer_stops_training() -> None:
    class Enough:
        @neurai.hookimpl
        def neurai_after_epoch(self, epoch: int) -> str | None:
            return "enough" if epoch == 2 else None

    fitted = neurai.fit("bp", MODEL, PARAMS, (X, Y), epochs=9, batch_size=50, observers=[Enough()])
    assert (fitted.stopped, len(fitted.metrics)) == ("enough", 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": [(X, Y, Y)]}, r"Batch 0 of epoch 1 is a tuple, expected the pair"),
        ({"data": []}, "hold no batch"),
        ({"data": 3}, "training data are a int"),
        ({"data": [(X, Y), (X[:, :3], Y)]}, r"x of batch 1 of epoch 1 has examples of shape \(3,\), expected \(64,\)"),
        ({"data": [(X, Y), (X, Y + 1)]}, r"y of batch 1 of epoch 1 holds label 10"),
        ({"data": [(X, Y)], "steps_per_epoch": 2}, r"gave 1 batches, expected 2"),
        ({"data": "digits", "test": (X, Y)}, "test is given, and so is a data set"),
        ({"rule": 3}, "The rule is a int"),
        ({"resume": True}, "resume=True needs the folder"),
        ({"optimizer": optax.sgd(0.1), "lr": 0.1}, "lr is given, and so is an optimizer"),
        ({"rule": neurai.algorithm("bp"), "settings": {"n": 3}}, "settings are given, and so is a Rule"),
        ({"model": "mlp:8", "params": None, "data": [(X, Y)]}, "how many classes"),
        (
            {"model": lambda params, x: x, "params": None},
            r"function without parameters.\nPass its parameters as params",
        ),
        ({"data": (X, Y + 1)}, r"labels run from 1 to 10.*\nSubtract 1 from the labels; .* say classes=11"),
        ({"data": X}, r"are one ndarray, expected the pair \(x, y\).\nPass the targets"),
        ({"rule": "hebbian", "data": X}, r"expected the pair \(x, y\).\nPass \(x, None\) for data without targets"),
        ({"rule": "hebbian", "data": [X]}, r"expected the pair \(x, y\).\n.*Without targets, y is None"),
    ],
)
def test_what_does_not_fit_is_said(given: dict[str, Any], message: str) -> None:
    arguments = {"rule": "bp", "model": MODEL, "params": PARAMS, "data": (X, Y), "epochs": 1} | given
    parts = [arguments.pop(name) for name in ("rule", "model", "params", "data")]
    with pytest.raises(UsageError, match=message):
        neurai.fit(*parts, **arguments)


def test_lists_of_numbers_are_arrays(fitted: neurai.Fitted) -> None:
    same_bits(neurai.fit("bp", MODEL, PARAMS, (X.tolist(), Y.tolist()), **SMALL).params, fitted.params)


def test_settings_of_a_rule_are_checked() -> None:
    with pytest.raises(SettingsError, match="eta"):
        neurai.fit("pc", MODEL, PARAMS, (X, Y), settings={"etta": 3})


# ---------------------------------------------------------------------------- folders


def test_a_run_of_names_is_loaded_in_a_fresh_process(tmp_path: Path) -> None:
    fitted = neurai.fit("pc", "mlp:8", None, "digits", epochs=1, settings={"n": 2}, out=tmp_path / "run")
    np.save(tmp_path / "x.npy", DATA.x_test[:7])
    code = (
        "import sys, numpy as np, neurai_core as neurai\n"
        f"run = neurai.load_run({str(tmp_path / 'run')!r})\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, run.predict(np.load({str(tmp_path / 'x.npy')!r})))\n"
        "print(run.settings['settings']['rule']['n'], len(run.metrics), 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "1", "False"], done.stderr  # no data were read
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), fitted.predict(DATA.x_test[:7]))


def test_a_run_of_objects_is_loaded_with_them_and_says_so_without(tmp_path: Path) -> None:
    def net(params: Any, x: Any) -> Any:
        return x @ params

    fitted = neurai.fit("bp", net, np.zeros((64, 10), np.float32), (X, Y), **SMALL, out=tmp_path / "run")
    run = neurai.load_run(tmp_path / "run", model=net, params=np.zeros((64, 10), np.float32))
    same_bits(run.params, fitted.params)
    assert run.metrics == fitted.metrics
    with pytest.raises(UsageError, match=r"whose model was an object of Python, .*net"):
        neurai.load_run(tmp_path / "run")
    with pytest.raises(UsageError, match="Pass its parameters as params"):
        neurai.load_run(tmp_path / "run", model=net)


def test_a_run_that_is_there_is_not_begun_again_and_more_epochs_of_it_need_a_constant_rate(tmp_path: Path) -> None:
    arguments: dict[str, Any] = SMALL | {"out": tmp_path / "run"}
    neurai.fit("bp", "mlp:4", None, (X, Y), **arguments)
    with pytest.raises(
        OutputError, match=r"already holds a run.\nChoose another folder, or continue it with resume=True"
    ):
        neurai.fit("bp", "mlp:4", None, (X, Y), **arguments)
    arguments |= {"resume": True, "epochs": 3}
    with pytest.raises(SettingsError, match="epochs was 2 and is 3"):
        neurai.fit("bp", "mlp:4", None, (X, Y), **arguments)
    with pytest.raises(SettingsError, match="settings: schedule was cosine and is constant\\."):
        neurai.fit("bp", "mlp:4", None, (X, Y), **arguments, schedule="constant")


def test_a_forced_run_keeps_the_settings_that_it_ended_with(tmp_path: Path) -> None:
    arguments: dict[str, Any] = SMALL | {"out": tmp_path / "run", "resume": True}
    neurai.fit("bp", "mlp:4", None, (X, Y), **arguments)
    (tmp_path / "run" / "config.toml").write_bytes(b"\xff")  # not needed to go on
    neurai.fit("bp", "mlp:4", None, (X, Y), **arguments | {"lr": 0.5}, force=True)
    assert neurai.load_run(tmp_path / "run").settings["lr"] == 0.5


def test_a_model_of_a_library_keeps_its_structure(tmp_path: Path) -> None:
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(64, 10, 8, 1, key=jax.random.key(0))
    fitted = neurai.fit("pc", model, None, (X, Y), settings={"n": 2}, **SMALL, out=tmp_path / "run")
    assert isinstance(fitted.params, eqx.nn.MLP)
    np.testing.assert_allclose(jax.vmap(eqx.combine(fitted.params, model))(X[:5]), fitted.predict(X[:5]), rtol=1e-5)
    same_bits(neurai.load_run(tmp_path / "run", model=model).predict(X[:5]), fitted.predict(X[:5]))


def test_a_run_goes_on_from_the_middle_of_an_epoch_to_the_same_bits(fitted: neurai.Fitted, tmp_path: Path) -> None:
    arguments: dict[str, Any] = SMALL | {"out": tmp_path / "run", "resume": True}

    class Stop:
        @neurai.hookimpl
        def neurai_after_step(self, step: int) -> str | None:
            return "enough" if step == 5 else None

    half = neurai.fit("bp", MODEL, PARAMS, (X, Y), **arguments, observers=[Stop()])
    assert (half.steps, half.stopped) == (6, "enough")
    whole = neurai.fit("bp", MODEL, PARAMS, (X, Y), **arguments)
    same_bits(whole.params, fitted.params)
    assert without_times(whole.metrics) == without_times(fitted.metrics)
    for changed in ({"seed": 1}, {"lr": 0.5}, {"batch_size": 40}):
        with pytest.raises(SettingsError, match=f"{next(iter(changed))} was .* and is {next(iter(changed.values()))}"):
            neurai.fit("bp", MODEL, PARAMS, (X, Y), **arguments | changed)
    with pytest.raises(SettingsError, match="data_sha256 was"):
        neurai.fit("bp", MODEL, PARAMS, (X + 1, Y), **arguments)


def test_batches_go_on_from_the_middle_of_an_epoch_to_the_same_bits(tmp_path: Path) -> None:
    arguments: dict[str, Any] = SMALL | {"steps_per_epoch": 4}

    def broken(epoch: int) -> Iterator[Any]:
        yield from itertools.islice(by_epoch(epoch), 2 if epoch else 4)
        if epoch:
            raise OSError("gone")

    whole = neurai.fit("bp", MODEL, PARAMS, by_epoch, **arguments)
    with pytest.raises(OSError, match="gone"):
        neurai.fit("bp", MODEL, PARAMS, broken, **arguments, out=tmp_path / "run", every=1)
    again = neurai.fit("bp", MODEL, PARAMS, by_epoch, **arguments, out=tmp_path / "run", resume=True)
    same_bits(again.params, whole.params)
    assert without_times(again.metrics) == without_times(whole.metrics)


def test_checkpoints_are_written_every_so_many_steps_and_some_are_kept(tmp_path: Path) -> None:
    neurai.fit("bp", MODEL, PARAMS, (X, Y), **SMALL, out=tmp_path / "run", every=3, keep=2)
    assert [path.stem for path in sorted((tmp_path / "run" / "checkpoints").iterdir())][-1] == "step-000000008"

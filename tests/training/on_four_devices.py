"""Claims about a process with four devices, run by `test_devices.py`: prints what went wrong with each, as JSON.

python on_four_devices.py FOLDER CLAIM...    runs these claims; what should stay after them is left in FOLDER
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import jax
import numpy as np

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import DataError, SettingsError, UsageError
from neurai_core.models import mlp
from neurai_core.registry import REGISTRY

FOLDER = Path(sys.argv[1])
DIGITS = neurai.dataset("digits")
X, Y = DIGITS.x_train[:24].reshape(-1, 64).astype(float), DIGITS.y_train[:24]
TEST = DIGITS.x_test[:10].reshape(-1, 64).astype(float), DIGITS.y_test[:10]  # four devices cannot share it equally
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 8, "seed": 3, "optimizer": "sgd", "lr": 0.05}


def by_name(rule: str, devices: int | None, **more: Any) -> neurai.Fitted:
    """A run that is told what the rule alone does not decide."""
    spec = neurai.spec("algorithm", rule)
    settings = {"pc": {"n": 3}, "ep": {"n_relax": 5}}.get(rule, {})
    given = {"model": "snn:8" if "spiking" in spec.claims else "mlp:8", "settings": settings} | SMALL | more
    model, test = given.pop("model"), given.pop("test", TEST)
    x, y = given.pop("data", (X, Y))
    if "spiking" in spec.claims and x.ndim == 2:
        x, test = np.repeat(x[:, None], 3, 1), (np.repeat(test[0][:, None], 3, 1), test[1])
    return neurai.fit(rule, model, None, (x, y), test=test, devices=devices or 1, **given)


def agree(rule: str, tolerance: float, **more: Any) -> neurai.Fitted:
    """Train on one device and on four, and compare everything."""
    one, four = (by_name(rule, devices, **more) for devices in (None, 4))
    jax.tree.map(lambda a, b: near(b, a, tolerance), (one.params, one.state), (four.params, four.state))
    for row, other in zip(one.metrics, four.metrics, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"step_ms"}:
            near(other[name], row[name], 10 * tolerance, name)
    return four


def near(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    if isinstance(found, jax.Array) and jax.dtypes.issubdtype(found.dtype, jax.dtypes.prng_key):
        found, expected = jax.random.key_data(found), jax.random.key_data(expected)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), tolerance, tolerance, err_msg=what)


def as_on_one_device(rule: str) -> None:
    """Parameters, states and metrics are those of one device, after six steps in float64."""
    with jax.enable_x64(True):
        found = agree(rule, 1e-12)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(found.params)} == {4}


def in_float32(rule: str) -> None:
    """The same in float32."""
    agree(rule, 1e-5, test=None)


def wide(rule: str) -> None:
    """The same in float64 with the settings that a rule itself chooses, in one epoch of two steps."""
    spec = neurai.spec("algorithm", rule)
    more = {"data": (X[:16], Y[:16]), "epochs": 1, "settings": {}}
    if spec.unsupervised:
        more["model"] = "snn:8,6" if "spiking" in spec.claims else "mlp:8,6"
    with jax.enable_x64(True):
        agree(rule, 1e-12, **more)


def rows_from_files() -> None:
    """Rows that are read and converted when they are needed are shared like those of arrays."""
    place = FOLDER / "files"
    place.mkdir()
    for name, array in (("x_train", X * 16), ("y_train", Y), ("x_test", TEST[0] * 16), ("y_test", TEST[1])):
        np.save(place / f"{name}.npy", array.astype(np.uint8))
    data = neurai.dataset("npy", path=str(place), unit=16, first=0)
    one, four = (neurai.fit("bp", "mlp:8", None, data, devices=devices, **SMALL) for devices in (1, 4))
    arrays = neurai.fit("bp", "mlp:8", None, (X.astype(np.float32), Y), devices=1, **SMALL)
    jax.tree.map(lambda a, b: near(b, a, 1e-5), one.params, four.params)
    near(four.metrics[-1]["test_loss"], one.metrics[-1]["test_loss"], 1e-5)
    jax.tree.map(np.testing.assert_array_equal, one.params, arrays.params)


def sharded_parameters() -> None:
    """Large arrays lie in parts on the devices, with their moments, and the result is that of one device."""
    model = mlp((64, 1024, 10))
    params, _ = model.init(jax.random.key(0), (64,))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(float), params)
        given = {"epochs": 2, "batch_size": 8, "optimizer": "sgd(0.05, momentum=0.9)"}
        one = neurai.fit("bp", model, params, (X, Y), devices=1, **given)
        four = neurai.fit("bp", model, params, (X, Y), devices="all", shard="params", **given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12), one.params, four.params)
    parts = {leaf.shape: leaf.addressable_shards[0].data.shape for leaf in jax.tree.leaves(four.params)}
    assert parts == {(64, 1024): (64, 256), (1024,): (1024,), (1024, 10): (1024, 10), (10,): (10,)}, parts
    assert four.predict(X[:3]).shape == (3, 10)


def moments_are_split_too() -> None:
    """What the optimizer keeps for a large array lies like it, from the start and after steps."""
    from neurai_core.training.loop import train_task
    from neurai_core.training.settings import choose
    from neurai_core.training.step import begin
    from neurai_core.training.task import prepare

    flags = {"rule": "bp", "model": "mlp:1024", "epochs": 1, "batch_size": 400, "devices": 4, "shard": "params"}
    task = prepare(choose(flags, environ={}))
    start = begin(task)
    before = jax.tree.map(lambda leaf: leaf.sharding.spec, start)
    after = jax.tree.map(lambda leaf: leaf.sharding.spec, train_task(task, start).progress)
    assert before == after
    large = [leaf for leaf in jax.tree.leaves(begin(task)) if leaf.size >= 2**16]
    assert len(large) == 4, [leaf.shape for leaf in large]  # the weights, two moments, and the last finite weights
    assert {leaf.addressable_shards[0].data.shape for leaf in large} == {(64, 256)}


def a_run_goes_on() -> None:
    """A run on four devices resumes bit for bit; on two only when forced, and then from the same checkpoint."""
    given = {**SMALL, "schedule": "constant", "devices": 4, "shard": "params"}
    model = "mlp:1024"
    whole = neurai.fit("bp", model, None, (X, Y), **given)
    neurai.fit("bp", model, None, (X, Y), **{**given, "epochs": 1}, out=FOLDER / "run")
    assert 'devices = 4\nshard = "params"\n' in (FOLDER / "run" / "config.toml").read_text()
    try:
        neurai.fit("bp", model, None, (X, Y), **{**given, "devices": 2}, out=FOLDER / "run", resume=True)
    except SettingsError as error:
        assert "were written with other settings: devices was 4 and is 2." in error.message, error
    else:
        raise AssertionError("it went on")
    resumed = neurai.fit("bp", model, None, (X, Y), **given, out=FOLDER / "run", resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(resumed.params)} == {4}
    more = {**given, "devices": 2, "epochs": 3}
    forced = neurai.fit("bp", model, None, (X, Y), **more, out=FOLDER / "run", resume=True, force=True)
    assert forced.steps == 9


def sizes_that_do_not_divide() -> None:
    """They are refused before training; only later batches of a stream may be of any size."""
    for size, near in ((50, "48 and 52"), (2, "4")):
        with_error(
            SettingsError, f"batch_size is {size}, which 4 devices", f"do: {near}.", batch_size=size, data="digits"
        )
    stream = [(X[:8], Y[:8]), (X[8:14], Y[8:14])]
    with_error(DataError, "The first batch has 6, which 4 devices cannot", "4 and 8.", data=stream[::-1])
    one, four = (neurai.fit("bp", "mlp:8", None, stream, classes=10, epochs=2, devices=n) for n in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, atol=1e-5), one.params, four.params)


def with_error(kind: type[UsageError], message: str, hint: str, *, data: Any, **given: Any) -> None:
    try:
        neurai.fit("bp", "mlp:8", None, data, devices=4, **given)
    except kind as error:
        assert message in error.message and hint in error.hint, error
    else:
        raise AssertionError(f"nothing said {message}")


def idle_devices_are_told_of() -> None:
    """The command says in one line that devices are idle; Python warns once."""
    told = "One of 4 devices is used; --devices all"
    train = ["train", "--rule", "bp", "--model", "mlp:4", "--dry-run"]
    assert command(*train).count(told) == 1
    assert told not in command(*train, "--devices", "1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        neurai.fit("bp", "mlp:4", None, (X, Y), epochs=1, batch_size=8)
    assert [str(one.message)[: len(told)] for one in caught] == [told], caught


def the_command_trains_on_all() -> None:
    """`--devices all`, resumed on two devices with `--devices 2 --force`."""
    run = str(FOLDER / "all")
    command("train", "--rule", "bp", "--model", "mlp:4", "--epochs", "1", "--devices", "all", "--out", run)
    assert "devices = 4\n" in (FOLDER / "all" / "config.toml").read_text()
    said = command("train", "--resume", run, "--devices", "2", code=2)
    assert "devices was 4 and is 2" in said, said
    command("train", "--resume", run, "--devices", "2", "--force")
    assert "devices = 2\n" in (FOLDER / "all" / "config.toml").read_text()


def command(*arguments: str, code: int = 0) -> str:
    said = StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        assert main(list(arguments)) == code, said.getvalue()
    return said.getvalue()


def claim(name: str) -> Callable[[], None]:
    """The function of a name, or of a name and a rule: ``wide:pc``."""
    function, _, rule = name.partition(":")
    return (lambda: globals()[function](rule)) if rule else globals()[function]


if __name__ == "__main__":
    assert jax.device_count() == 4
    jax.config.update("jax_disable_most_optimizations", True)  # which halves the time to compile
    failed = {}
    for name in sys.argv[2:] if sys.argv[2:] != ["wide"] else [f"wide:{one}" for one in REGISTRY.names("algorithm")]:
        warnings.simplefilter("ignore")
        try:
            claim(name)()
            failed[name] = ""
        except Exception:
            failed[name] = traceback.format_exc()
    print(json.dumps(failed))

"""Data sets that build batches: in the order of a run, resumed where it stopped, refused where arrays are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.batched import BatchedData
from neurai_core.cli import main
from neurai_core.data import batches
from neurai_core.errors import DataError
from neurai_core.plugin import Plugin
from neurai_core.specs import DatasetSpec
from neurai_core.testing import check_dataset

DIGITS = neurai.dataset("digits")
X, Y = DIGITS.x_train.reshape(-1, 64)[:200], DIGITS.y_train[:200]
X_TEST, Y_TEST = DIGITS.x_test.reshape(-1, 64)[:60], DIGITS.y_test[:60]


class Loader:
    """Batches as a function of everything, with a list of the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def train(self, epoch: int, seed: int, batch_size: int, start: int) -> Iterator[Any]:
        self.calls.append((epoch, start))
        return batches(X, Y, batch_size, seed, epoch, start)


def data_of(train: Any, **more: Any) -> BatchedData:
    return BatchedData("mine", train, X_TEST, Y_TEST, **{"classes": DIGITS.classes, **more})


def offered(data: BatchedData) -> Any:
    """The data set as that of a plugin."""
    spec = DatasetSpec(name="mine", summary="Digits in batches", split="by row", source="digits")
    return neurai.temporary(Plugin(spec, lambda config, **context: data))


def train(folder: Path, *more: str) -> int:
    arguments = ["train", "--rule", "bp", "--model", "mlp:8", "--data", "mine", "--epochs", "2", "--seed", "3"]
    return main([*arguments, "--quiet", "--out", str(folder), *more])


def params_of(folder: Path) -> bytes:
    return (folder / "params.safetensors").read_bytes()


def test_batches_in_the_order_of_arrays_give_the_bits_of_arrays() -> None:
    arrays = neurai.fit("bp", "mlp:8", None, (X, Y), test=(X_TEST, Y_TEST), epochs=2, batch_size=50, seed=3)
    data = data_of(Loader().train, steps=lambda batch_size: len(X) // batch_size)
    found = neurai.fit("bp", "mlp:8", None, data, epochs=2, batch_size=50, seed=3)
    jax.tree.map(np.testing.assert_array_equal, found.params, arrays.params)
    assert found.metrics[-1]["test_accuracy"] == arrays.metrics[-1]["test_accuracy"]


class Stop:
    @neurai.hookimpl
    def neurai_after_step(self, step: int) -> str:
        return "enough" if step == 5 else ""


@pytest.mark.few(1)
@pytest.mark.parametrize("seeks", [True, False], ids=["seeks", "passes over"])
def test_a_run_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(seeks: bool, tmp_path: Path) -> None:
    loader = Loader()

    def whole_epoch(epoch: int, seed: int, batch_size: int) -> Iterator[Any]:
        return loader.train(epoch, seed, batch_size, 0)

    with offered(data_of(loader.train if seeks else whole_epoch, steps=4)):
        assert train(tmp_path / "whole", "--batch-size", "50") == 0
        with neurai.observe(Stop()):
            assert train(tmp_path / "stopped", "--batch-size", "50") == 0
        loader.calls.clear()
        assert main(["train", "--resume", str(tmp_path / "stopped"), "--quiet"]) == 0
    assert loader.calls == [(0, 0), (1, 2 if seeks else 0)]  # the first one for its shapes
    assert params_of(tmp_path / "stopped") == params_of(tmp_path / "whole")


def test_an_iterable_is_gone_through_in_every_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [(X[at : at + 40], Y[at : at + 40]) for at in range(0, 200, 40)]
    with offered(data_of(own)):
        assert train(tmp_path / "run") == 0
        assert neurai.load_run(tmp_path / "run").predict(X_TEST).shape == (60, 10)
        assert train(tmp_path / "other", "--batch-size", "50") == 2
    assert "--batch-size is given, and mine comes in batches of its own." in capsys.readouterr().err


def test_other_data_are_noticed_by_their_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(Loader().train, steps=4, sha256="a" * 64)
    with offered(data):
        assert train(tmp_path / "run", "--batch-size", "50") == 0
    with offered(replace(data, sha256="b" * 64)):
        assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 2
    assert "The data set 'mine' is not the one" in capsys.readouterr().err


def test_test_data_and_batches_are_checked() -> None:
    with pytest.raises(DataError, match="y of the test data of mine holds label 9"):
        neurai.fit("bp", "mlp:8", None, data_of(Loader().train, steps=4, classes=tuple("012345678")), batch_size=50)
    bad = [(np.full((4, 64), np.nan), np.zeros(4, int))]
    with pytest.raises(DataError, match="x of batch 0 of epoch 1 holds nan"):
        neurai.fit("bp", "mlp:8", None, data_of(bad))


def test_what_needs_arrays_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with offered(data_of(Loader().train, steps=4)):
        for command in (
            ["compare", "bp", "pc", "--data", "mine", "--out", str(tmp_path / "c")],
            ["sweep", "bp", "--data", "mine", "--over", "lr=0.1,0.2", "--out", str(tmp_path / "s")],
        ):
            assert main(command) == 2
            assert "mine comes in batches, expected arrays" in capsys.readouterr().err
        assert main(["data", "pack", "mine", str(tmp_path / "p")]) == 2
        assert "mine comes in batches, which need no packing." in capsys.readouterr().err
        assert {one.status for one in check_dataset("mine") if one.check != "terms"} == {"skipped"}
    assert list(tmp_path.iterdir()) == []


def test_grain_loads_shuffles_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grain")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import grain_digits

    built = grain_digits.build(None)
    first, again, other = (
        np.concatenate([np.asarray(y) for _, y in built.of_epoch(epoch, seed=1, batch_size=100, start=0)])
        for epoch in (0, 0, 1)
    )
    assert len(first) == 1400 and (first == again).all() and (first != other).any()
    rest = np.concatenate([np.asarray(y) for _, y in built.of_epoch(0, seed=1, batch_size=100, start=12)])
    assert (rest == first[1200:]).all()
    with neurai.temporary(grain_digits.grain_digits):
        arguments = ["train", "--rule", "bp", "--model", "mlp:8", "--data", "grain-digits", "--batch-size", "200"]
        arguments += ["--epochs", "1", "--quiet", "--out"]
        assert main([*arguments, str(tmp_path / "whole")]) == 0
        with neurai.observe(Stop()):
            assert main([*arguments, str(tmp_path / "stopped")]) == 0
        assert main(["train", "--resume", str(tmp_path / "stopped"), "--quiet"]) == 0
    assert params_of(tmp_path / "stopped") == params_of(tmp_path / "whole")

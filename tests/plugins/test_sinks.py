"""Observers that write metrics to where other programs read them."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import MissingExtra, OutputError, SettingsError, UnknownName
from neurai_core.registry import REGISTRY
from neurai_core.training.run import resume
from neurai_core.training.settings import choose

pytestmark = pytest.mark.usefixtures("quick_compile")

DATA = (np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40, dtype="int32") % 3)
QUICK = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "batch_size": 20}


class Stop:
    """Stops a run after some epochs, as a signal would within one."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    @neurai.hookimpl
    def neurai_after_epoch(self, epoch: int) -> str | None:
        return "enough" if epoch == self.epochs else None


def fit(epochs: int, *observers: Any, **more: Any) -> neurai.Fitted:
    return neurai.fit("bp", "mlp:5", None, DATA, test=DATA, epochs=epochs, observers=observers, **QUICK, **more)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without what no observer gets."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("step", "step_ms")} for row in rows]


def table(path: Path) -> list[dict[str, float]]:
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def events(folder: Path) -> list[dict[str, float]]:
    """The metrics by epoch in all event files of a folder, in the order of writing, with checksums verified."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    crc = pytest.importorskip("tensorboardX.record_writer").masked_crc32c
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            head = content[at : at + 8]
            (size,) = struct.unpack("<Q", head)
            record = content[at + 12 : at + 12 + size]
            assert content[at + 8 : at + 12] == struct.pack("<I", crc(head))
            assert content[at + 12 + size : at + 16 + size] == struct.pack("<I", crc(record))
            at += 16 + size
            event = proto.Event.FromString(record)
            for value in event.summary.value:
                row = rows.setdefault(event.step, {"epoch": event.step})
                assert value.tag not in row, f"{value.tag} is there twice for epoch {event.step}"
                row[value.tag] = value.simple_value
    return list(rows.values())


def assert_same(found: list[dict[str, float]], expected: list[dict[str, Any]]) -> None:
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([*one.values()], [*other.values()], rtol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("text", "place", "read"),
    [("csv", "metrics.csv", table), ("tensorboard", "tensorboard", events)],
)
def test_a_log_holds_every_epoch_once_also_after_resuming(
    tmp_path: Path, text: str, place: str, read: Callable[[Path], list[dict[str, float]]]
) -> None:
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(text, text))
    run = tmp_path / "run"
    fit(4, text, Stop(2), out=run)
    assert_same(read(run / place), rows_of(run))
    assert len(rows_of(run)) == 2
    fit(4, text, Stop(3), out=run, resume=True)
    # As if killed after its last epoch was logged and before it was saved: that epoch is trained again.
    max((run / "checkpoints").iterdir()).unlink()
    fit(4, text, out=run, resume=True)
    assert [row["epoch"] for row in rows_of(run)] == [1, 2, 3, 4]
    assert_same(read(run / place), rows_of(run))


def test_events_in_a_folder_of_several_runs_are_replaced_only_by_their_own_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    shared = tmp_path / "events"
    for name in ("one", "two"):
        fit(2, f"tensorboard,dir={shared}", Stop(1), out=tmp_path / name)
    before = {path.name: path.read_bytes() for path in shared.iterdir()}
    fit(2, f"tensorboard,dir={shared}", out=tmp_path / "one", resume=True)
    after = {path.name: path.read_bytes() for path in shared.iterdir()}
    assert len(before) == len(after) == 2
    assert len(before.items() & after.items()) == 1


def test_a_resumed_run_keeps_the_times_of_its_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from neurai_observers.events import read_events

    def times() -> list[float]:
        (path,) = (tmp_path / "run" / "tensorboard").iterdir()
        return [event.wall_time for event in read_events(path) if event.step == 1]

    fit(2, "tensorboard", Stop(1), out=tmp_path / "run")
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    before = times()
    path.write_bytes(path.read_bytes() + b"\x20")  # a record that was cut off
    fit(2, "tensorboard", out=tmp_path / "run", resume=True)
    assert max(times()) == pytest.approx(max(before), abs=1e-3)


def test_a_column_that_begins_later_is_empty_before(tmp_path: Path) -> None:
    log = neurai.observer("csv", path=str(tmp_path / "deep" / "log.csv"))
    log.neurai_before_run([], None)
    log.neurai_after_epoch(1, {"test_loss": 0.5})
    log.neurai_after_epoch(2, {"test_loss": 0.25, "aux/energy": 1.0})
    log.neurai_after_epoch(3, {"aux/energy": 2.0})
    text = (tmp_path / "deep" / "log.csv").read_text()
    assert text == "epoch,test_loss,aux/energy\n1,0.5,\n2,0.25,1.0\n3,,2.0\n"


def test_a_log_is_recorded_and_resumed_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAI_CACHE", "off")
    words = ("train", "--rule", "bp", "--model", "mlp:4", "--epochs", "1", "--log", "csv", "--quiet")
    more = ("--log", f"csv,path={tmp_path / 'other.csv'}", "--out", str(tmp_path / "run"))
    assert main([*words, *more]) == 0
    for path in (tmp_path / "run" / "metrics.csv", tmp_path / "other.csv"):
        assert len(table(path)) == 1
        path.unlink()
    resume(tmp_path / "run")
    assert len(table(tmp_path / "run" / "metrics.csv")) == len(table(tmp_path / "other.csv")) == 1


@pytest.mark.parametrize("name", ["csv", "tensorboard", "wandb", "mlflow"])
def test_a_log_does_not_bring_every_step_back_to_the_host(name: str) -> None:
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(name, name))
    before = REGISTRY.observers().watch_steps
    with neurai.observe(neurai.observer(name)):
        assert REGISTRY.observers().watch_steps == before


def test_an_observer_is_told_how_training_ended(tmp_path: Path) -> None:
    class Ends:
        told: tuple[bool, ...] = ()

        @neurai.hookimpl
        def neurai_after_run(self, finished: bool) -> None:
            self.told = (*self.told, finished)

    ends = Ends()
    fit(1, ends)
    fit(2, ends, Stop(1), out=tmp_path / "run")
    with pytest.raises(neurai.TrainingError):
        neurai.fit("bp", "mlp:5", None, DATA, epochs=9, observers=[ends], **QUICK | {"lr": 1e38})
    assert ends.told == (True, True, False)


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("texts", "kind", "said"),
    [
        (("tensorbord",), UnknownName, "Did you mean 'tensorboard'?"),
        (("csv,pth=x",), SettingsError, "pth: not a setting of 'csv'; did you mean 'path'?"),
        (("csv,x",), SettingsError, "--log got 'x', expected key=value"),
        (("csv", "csv"), SettingsError, "--log names 'csv' twice"),
        (("wandb,mode=of",), SettingsError, "'offline'"),
    ],
)
def test_a_wrong_log_is_refused_before_anything_starts(
    texts: tuple[str, ...], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said.replace("?", r"\?")):
        choose({"log": texts}, environ={})


def test_several_logs_in_one_text() -> None:
    assert choose(environ={"NEURAI_LOG": "csv; tensorboard,dir=x"}).settings.log == ("csv", "tensorboard,dir=x")


def test_a_log_without_a_place_says_how_to_give_one() -> None:
    with pytest.raises(SettingsError, match="no file to write to: this run has no folder"):
        fit(1, "csv")


@pytest.mark.parametrize("text", ["csv,path={}/log.csv", "tensorboard,dir={}/events"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, text: str) -> None:
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(text.partition(",")[0], "csv"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file.*: (Not a directory|File exists)"):
        fit(1, text.format(tmp_path / "file"))


@pytest.mark.parametrize(
    ("name", "needed"), [("tensorboard", "neurai[tensorboard]"), ("wandb", "neurai[wandb]"), ("mlflow", "mlflow")]
)
def test_a_missing_library_is_named_with_how_to_install_it(
    name: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorboardX", "wandb", "mlflow"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        neurai.observer(name)
    assert needed in caught.value.hint


# ---------------------------------------------------------------------------- services, where their library is there


def test_a_run_of_wandb_is_written_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    fit(2, "wandb,mode=offline", Stop(1), out=run)
    identity = (run / "wandb.id").read_text()
    fit(2, "wandb,mode=offline", out=run, resume=True)
    assert len(list((run / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))) == 2


@pytest.mark.filterwarnings("ignore")  # its own libraries warn one another
def test_a_run_of_mlflow_has_every_epoch_once(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = tmp_path / "run"
    fit(3, f"mlflow,uri={uri}", Stop(2), out=run)
    fit(3, f"mlflow,uri={uri}", out=run, resume=True)
    client = mlflow.MlflowClient(tracking_uri=uri)
    logged = client.get_metric_history((run / "mlflow.id").read_text(), "test_loss")
    assert [one.step for one in logged] == [1, 2, 3]
    assert [one.value for one in logged] == [row["test_loss"] for row in rows_of(run)]
    found = client.get_run((run / "mlflow.id").read_text())
    assert (found.info.status, found.data.params["optimizer"]) == ("FINISHED", "sgd")

"""Spiking networks from the command line: named, trained, repeated, continued, and refused in clear words."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurai_core import fit
from neurai_core.cli import main

Run = Callable[..., Any]
SMALL = ("--data", "spiking-digits", "--model", "snn:8", "--steps", "10", "--epochs", "2", "--batch-size", "200")
SURROGATE = ("--surrogate", "superspike", "--set-surrogate", "alpha=10")


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_ms"} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spiking") / "run"
    assert main(["train", *SMALL, *SURROGATE, "--quiet", "--out", str(folder)]) == 0
    return folder


def test_the_surrogate_and_its_settings_decide_the_run_and_are_recorded(finished: Path) -> None:
    config = tomllib.loads((finished / "config.toml").read_text())
    assert config["surrogate"] == "superspike" and "steps" not in config
    assert config["settings"]["surrogate"] == {"alpha": 10.0, "spiking": True}
    assert config["settings"]["data"]["steps"] == 10
    first, last = metrics(finished)
    assert last["train_loss"] < first["train_loss"]


def test_its_configuration_repeats_it_and_flags_change_it(neurai: Run, finished: Path, tmp_path: Path) -> None:
    config = finished / "config.toml"
    assert neurai("train", "--config", config, "-q", "--out", tmp_path / "again").code == 0
    assert metrics(tmp_path / "again") == metrics(finished)
    changed = ("--set-surrogate", "alpha=1", "--steps", "7")  # other steps are other data, which were asked for
    shown = neurai("config", "show", "--config", config, *changed, "--json").json
    assert (shown["surrogate.alpha"]["value"], shown["data.steps"]["value"]) == (1, 7)
    assert neurai("train", "--config", config, *changed, "--dry-run").code == 0


def test_it_is_continued_to_the_same_bits(neurai: Run, finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "checkpoints" / "step-000000014.safetensors").unlink()
    assert neurai("train", "--resume", copy, "-q").code == 0
    assert metrics(copy) == metrics(finished)
    assert (copy / "params.safetensors").read_bytes() == (finished / "params.safetensors").read_bytes()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (["--data", "digits", "--model", "snn:8,rate", "--steps", "5"], 64 * 8 + 8 + 80 + 10),
        (["--data", "yin-yang", "--model", "snn:8,recurrent", "--steps", "5", "--rule", "eprop"], 5 * 8 + 8 + 64 + 27),
        (["--data", "spiking-digits", "--model", "mlp:8", "--steps", "2"], 128 * 8 + 8 + 80 + 10),
    ],
)
def test_data_in_time_and_data_without_it_are_taken(neurai: Run, words: list[str], parameters: int) -> None:
    ended = neurai("train", *words, "--dry-run", "--json", "-q")
    assert ended.json["parameters"] == parameters


@pytest.mark.slow
def test_steps_that_only_suit_a_rule_give_way_to_sequences(neurai: Run, tmp_path: Path) -> None:
    path, run = tmp_path / "sequences.npz", tmp_path / "run"
    x, y = np.random.default_rng(0).random((64, 5, 6), np.float32), np.arange(64) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    words = ["--data", f"npz:{path}", "--rule", "eprop", "--model", "snn:8"]
    refused = neurai("train", *words, "--steps", "25", "-q")
    assert (refused.code, "sequences of 5 steps already, and --steps is 25" in refused.err) == (2, True)
    assert neurai("train", *words, "--epochs", "1", "--out", run, "-q").code == 0
    assert "steps = " not in (run / "config.toml").read_text(encoding="utf-8")
    assert neurai("train", "--config", run / "config.toml", "--out", tmp_path / "again", "-q").code == 0
    assert neurai("train", "--resume", run, "-q").code == 0
    assert metrics(tmp_path / "again") == metrics(run)
    fitted = fit("eprop", "snn:8", None, (x, y), epochs=1, test=(x, y))
    assert fitted.metrics[-1]["train_loss"] == metrics(run)[-1]["train_loss"]


def test_where_surrogate_and_steps_come_from_is_shown(neurai: Run) -> None:
    shown = neurai("config", "show", *SMALL, *SURROGATE, "--json").json
    assert shown["surrogate.alpha"] == {"value": 10, "source": "--set-surrogate"}
    assert shown["data.steps"] == {"value": 10, "source": "--steps"}
    plain = neurai("config", "show", "--model", "snn:8", "--data", "spiking-digits", "--json").json
    assert plain["surrogate"] == {"value": "superspike", "source": "default"}


SPIKING = ("--data", "spiking-digits", "--model", "snn:8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*SPIKING, "--surrogate", "superspik"], "Did you mean 'superspike'"),
        ([*SPIKING, "--set-surrogate", "alpha=0"], "alpha: input should be greater than 0 (got 0)"),
        ([*SPIKING, "--set-surrogate", "alpha=inf"], "alpha: "),
        ([*SPIKING, "--set-surrogate", "alfa=1"], "did you mean 'alpha'?"),
        ([*SPIKING, "--set-surrogate", "alpha"], "--set-surrogate got 'alpha', expected key=value"),
        ([*SPIKING, "--steps", "0"], "steps: input should be greater than or equal to 1 (got 0)"),
        (["--model", "mlp:8", "--surrogate", "superspike"], "--surrogate is for spiking networks, and --model mlp:8"),
        (["--model", "mlp:8", "--set-surrogate", "alpha=3"], "--set-surrogate is for spiking networks"),
        (["--model", "cnn:8", "--steps", "3"], "--steps is for spiking networks"),
        (["--model", "snn:8"], "A spiking network works in time, and the data have examples of shape (8, 8, 1)"),
        (["--data", "spiking-digits", "--model", "snn:8,rate"], "sequences of 50 steps already"),
        (["--data", "spiking-digits", "--model", "snn:recurrent"], "names no width of spiking neurons"),
        (["--data", "spiking-digits", "--model", "snn:8,recurent"], "Did you mean 'recurrent'"),
        (["--model", "snn:8,rate,latency", "--steps", "5"], "names the codes rate and latency"),
        ([*SPIKING, "--rule", "pc"], "names no value"),
        (["--rule", "eprop", "--model", "mlp:8"], "E-prop trains a SpikingNetwork"),
    ],
)
def test_wrong_usage_is_one_sentence_and_a_hint(neurai: Run, tmp_path: Path, words: list[str], said: str) -> None:
    ended = neurai("train", *words, "--out", tmp_path / "run")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.removeprefix("compiling...\n").startswith("error: ") and "hint: " in ended.err
    assert not (tmp_path / "run").exists()


def test_a_function_of_ones_own_is_given_surrogate_and_steps(neurai: Run, tmp_path: Path) -> None:
    (tmp_path / "own_snn.py").write_text(
        "from neurai_core.models.spiking import snn\n"
        "def net(input_shape, n_outputs, key, surrogate, steps):\n"
        "    model = snn((64, 4, n_outputs), surrogate=surrogate, steps=steps)\n"
        "    return (lambda params, x: model(params, x.reshape(len(x), -1))), model.init(key, (64,))[0]\n"
        "def deaf(n_outputs): ...\n"
    )
    own = f"{tmp_path / 'own_snn.py'}:"
    ended = neurai(
        "train", "--rule", "bp", "--model", f"{own}net", *SURROGATE, "--steps", "5", "--dry-run", "--json", "-q"
    )
    assert ended.json["parameters"] == 64 * 4 + 4 + 40 + 10
    refused = neurai("train", "--model", f"{own}deaf", *SURROGATE, "--dry-run")
    assert refused.code == 2 and "--surrogate was given, and" in refused.err


@pytest.mark.slow
def test_a_network_of_ones_own_need_not_take_the_defaults_of_a_spiking_rule(neurai: Run, tmp_path: Path) -> None:
    """It has its own steps and surrogate: only what is asked for on the command line is refused."""
    (tmp_path / "own_snn.py").write_text(
        "import jax, neurai_core\n"
        "from neurai_core.models.spiking import snn\n"
        "model = snn((64, 4, 10), surrogate=neurai_core.surrogate('superspike'), steps=3)\n"
        "net = model, model.init(jax.random.key(0), (64,))[0]\n"
        "def made(): return net\n"
    )
    flat = ("--data", "npz:" + str(_flat_digits(tmp_path)))
    for rule in ("eprop", "ottt", "decolle"):
        for name, why in (("net", "is not a function"), ("made", "does not take it")):
            words = ("train", "--rule", rule, "--model", f"{tmp_path / 'own_snn.py'}:{name}", *flat, "--dry-run", "-q")
            ended = neurai(*words, "--json")
            assert ended.code == 0 and ended.json["parameters"] == 64 * 4 + 4 + 40 + 10
            for flag in (("--steps", "5"), SURROGATE[:2]):
                refused = neurai(*words, *flag)
                assert refused.code == 2 and f"{flag[0]} was given, and" in refused.err and why in refused.err


def _flat_digits(folder: Path) -> Path:
    x, y = np.random.default_rng(0).random((128, 64), np.float32), np.arange(128) % 10
    np.savez(folder / "flat.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder / "flat.npz"

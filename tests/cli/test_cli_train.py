"""`neurai train` as its user meets it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurai_core
from neurai_core.cli import main
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.run import train
from neurai_core.training.settings import choose

pytestmark = pytest.mark.contract

Run = Callable[..., Any]
SMALL = ("--rule", "bp", "--model", "mlp:8", "--epochs", "2", "--batch-size", "100")
KEYS = ["rule", "data", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "steps", "step_ms", "run"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small finished run."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", *SMALL, "--quiet", "--out", str(folder)]) == 0
    return folder


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_ms"} for row in rows]


@pytest.mark.slow
def test_train_without_arguments_learns_the_digits(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = neurai("train")
    assert ended.code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-pc-digits")
    for word in ("train", "test", "loss", "accuracy", "time per step", "learning_curve.png"):
        assert word in ended.out
    assert metrics(folder)[-1]["test_accuracy"] >= 0.96
    assert "epoch 25: " in ended.err  # no terminal, so a line per epoch instead of a bar


def test_a_run_leaves_all_of_itself_in_its_folder(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.toml", "metrics.jsonl", "params.safetensors", "checkpoints", "learning_curve.png"}
    assert (finished / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert [row["epoch"] for row in metrics(finished)] == [1, 2]
    config = tomllib.loads((finished / "config.toml").read_text())
    assert (config["rule"], config["epochs"], config["seed"], config["loss"]) == ("bp", 2, 0, "cross_entropy")
    assert len(config["record"]["data_sha256"]) == 64
    assert {"python", "neurai", "jax", "jaxlib", "optax", "numpy"} <= set(config["record"]["versions"])


def test_the_result_does_not_wait_for_the_picture(tmp_path: Path) -> None:
    drawn = []
    callbacks = Callbacks(result=lambda result: drawn.append(Path(result["run"], "learning_curve.png").exists()))
    result = train(choose({"model": "mlp:4", "epochs": 1}, environ={}), tmp_path / "run", callbacks)
    assert drawn == [False]
    assert Path(result["run"], "learning_curve.png").exists()


def test_the_configuration_of_a_run_repeats_it_to_the_same_numbers(neurai: Run, finished: Path, tmp_path: Path) -> None:
    ended = neurai("train", "--config", finished / "config.toml", "--out", tmp_path / "again", "--json")
    assert ended.code == 0
    assert list(ended.json) == KEYS
    assert metrics(tmp_path / "again") == metrics(finished)
    for name in ("params.safetensors", "checkpoints/step-000000028.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    assert "train" in ended.err  # the table, for people


def test_a_finished_run_has_nothing_to_continue(neurai: Run, finished: Path) -> None:
    before = (finished / "params.safetensors").read_bytes()
    ended = neurai("train", "--resume", finished, "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["test_loss"] == metrics(finished)[-1]["test_loss"]
    assert (finished / "params.safetensors").read_bytes() == before


def test_resume_keeps_the_settings_of_the_run(neurai: Run, finished: Path) -> None:
    ended = neurai("train", "--resume", finished, "--batch-size", "7")
    assert ended.code == 2
    assert "--batch-size cannot change them" in ended.err


def test_a_damaged_checkpoint_is_passed_over_and_said(neurai: Run, finished: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    newest = copy / "checkpoints" / "step-000000028.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    ended = neurai("train", "--resume", copy, "--json")
    assert ended.code == 0
    assert "step-000000028" in ended.err
    assert metrics(copy) == metrics(finished)
    assert (copy / "params.safetensors").read_bytes() == (finished / "params.safetensors").read_bytes()


def test_other_data_under_the_same_name_are_refused(neurai: Run, finished: Path, tmp_path: Path) -> None:
    text = (finished / "config.toml").read_text()
    config = tmp_path / "config.toml"
    config.write_text(text.replace('data_sha256 = "', 'data_sha256 = "0'))
    ended = neurai("train", "--config", config, "--out", tmp_path / "run")
    assert ended.code == 2
    assert "The data set 'digits' is not the one" in ended.err
    assert not (tmp_path / "run").exists()


def test_another_version_is_said_but_not_refused(neurai: Run, finished: Path, tmp_path: Path) -> None:
    text = (finished / "config.toml").read_text()
    config = tmp_path / "config.toml"
    config.write_text(text.replace('optax = "', 'optax = "0.'))
    ended = neurai("train", "--config", config, "--dry-run")
    assert ended.code == 0
    assert "optax was 0." in ended.err


def test_dry_run_compiles_and_writes_nothing(neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = neurai("train", "--dry-run", "--model", "cnn:4", "--json", "--quiet")
    assert ended.code == 0
    assert ended.json["parameters"] == 9 * 4 + 4 + 64 * 10 + 10
    assert list(tmp_path.iterdir()) == []


def test_align_reports_how_gradients_stand_to_the_true_ones(neurai: Run, tmp_path: Path) -> None:
    ended = neurai("train", *SMALL, "--align", "--json", "--out", tmp_path / "run")
    assert metrics(tmp_path / "run")[-1]["aux/alignment/cosine/0"] == pytest.approx(1.0, abs=1e-5)
    assert list(ended.json) == [*KEYS, "alignment"]
    assert ended.json["alignment"]["cosine"] == pytest.approx({"0": 1.0, "1": 1.0}, abs=1e-5)
    assert {"gradient of", "cosine", "norm ratio", "1.0000"} <= {*re.split(r"\s{2,}|\n", ended.err)}
    assert ended.err.startswith("compiling...\n")


@pytest.mark.filterwarnings("default")
def test_a_run_that_ends_far_above_its_start_says_so(neurai: Run, tmp_path: Path) -> None:
    ended = neurai("train", *SMALL, "--lr", "1e6", "-q", "--out", tmp_path / "run")
    assert ended.code == 0
    assert re.search(r"note: The loss ended at .*e\+\d+, far above the 2\.\d+ at which it started", ended.err)
    assert "Lower --lr" in ended.err


def test_a_regression_has_no_accuracy(neurai: Run, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x_train=x, y_train=x.sum(1), x_test=x, y_test=x.sum(1))
    ended = neurai(
        "train", "--data", f"npz:{tmp_path / 'r.npz'}", "--epochs", "2", "--loss", "mse", "--json", "-q",
        "--batch-size", "25", "--model", "mlp:4", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.code == 0
    assert ended.json["train_accuracy"] is None
    assert ended.json["test_loss"] > 0
    assert (tmp_path / "run" / "learning_curve.png").exists()


def test_observers_are_called_and_told_of_checkpoints(neurai: Run, tmp_path: Path) -> None:
    class Counter:
        steps = 0
        paths: tuple[Path, ...] = ()

        @neurai_core.hookimpl
        def neurai_after_step(self, step: int, loss: float) -> None:
            assert np.isfinite(loss)
            self.steps += 1

        @neurai_core.hookimpl
        def neurai_checkpoint(self, path: Path) -> None:
            self.paths = (*self.paths, path)

    counter = Counter()
    with neurai_core.observe(counter):
        assert neurai("train", *SMALL, "-q", "--out", tmp_path / "run").code == 0
    assert counter.steps == 28
    assert [path.name for path in counter.paths] == ["step-000000014.safetensors", "step-000000028.safetensors"]


def test_stopping_early_ends_a_run_that_brings_nothing_more(neurai: Run, tmp_path: Path) -> None:
    stopping = ("--epochs", "40", "--stop-early", "patience=2,metric=test_accuracy")
    ended = neurai("train", *SMALL, *stopping, "--out", tmp_path / "run", "--json")
    accuracies = [row["test_accuracy"] for row in metrics(tmp_path / "run")]
    assert 3 <= len(accuracies) < 40 and ended.json["steps"] == 14 * len(accuracies)
    assert max(accuracies[-2:]) <= accuracies[-3] == max(accuracies)
    assert ended.json["stopped"].startswith("test_accuracy has not improved for 2 epochs")
    assert "Stopped early: test_accuracy has not" in ended.err
    params = (tmp_path / "run" / "params.safetensors").read_bytes()
    again = neurai("train", "--resume", tmp_path / "run", "--json", "--quiet").json
    assert again["stopped"] == ended.json["stopped"] and again["steps"] == ended.json["steps"]
    assert (tmp_path / "run" / "params.safetensors").read_bytes() == params


class Failing:
    """Fails in the middle of an epoch."""

    @neurai_core.hookimpl
    def neurai_after_step(self, step: int) -> None:
        if step == 36:
            raise RuntimeError("no paper")


def test_a_run_whose_observer_fails_is_saved_and_resumes_to_the_same_bits(neurai: Run, tmp_path: Path) -> None:
    stopping = ("--epochs", "40", "--stop-early", "patience=1,metric=test_accuracy", "--quiet")
    assert neurai("train", *SMALL, *stopping, "--out", tmp_path / "whole").code == 0
    with neurai_core.observe(Failing()):
        ended = neurai("train", *SMALL, *stopping, "--out", tmp_path / "run")
    assert ended.code == 1
    assert "RuntimeError: no paper" in ended.err
    assert f"hint: Raised by the observer Failing in neurai_after_step, {__file__}, line " in ended.err
    assert (tmp_path / "run" / "checkpoints" / "step-000000037.safetensors").exists()
    assert neurai("train", "--resume", tmp_path / "run", "--quiet").code == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    last = f"checkpoints/step-{14 * len(metrics(tmp_path / 'whole')):09d}.safetensors"
    for name in ("params.safetensors", last):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_observer_may_stop_a_run_within_its_first_epoch(neurai: Run, tmp_path: Path) -> None:
    class Enough:
        @neurai_core.hookimpl
        def neurai_after_step(self, step: int) -> str | None:
            return "seen enough" if step == 3 else None

    with neurai_core.observe(Enough()):
        ended = neurai("train", *SMALL, "--json", "--out", tmp_path / "run")
    assert (ended.code, ended.json["steps"], ended.json["test_loss"]) == (0, 4, None)
    assert "Stopped early: seen enough." in ended.err
    assert (tmp_path / "run" / "checkpoints" / "step-000000004.safetensors").exists()


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "--stop-early got '5', expected key=value"),
        ("patience=2,patience=3", "--stop-early sets 'patience' twice"),
        ("patience=0", "patience: input should be greater than or equal to 1 (got 0)"),
        ("patinece=5", "patinece: not a setting of 'early-stopping'; did you mean 'patience'?"),
        ("", "stop_early"),
    ],
)
def test_wrong_settings_of_early_stopping_are_refused_before_anything_starts(neurai: Run, text: str, said: str) -> None:
    ended = neurai("train", *SMALL, "--stop-early", text)
    assert ended.code == 2 and said in ended.err


def test_early_stopping_on_a_metric_that_is_none_says_which_there_are_before_the_first_step(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurai_core.training.loop._Loop.epoch", lambda loop: pytest.fail("an epoch began"))
    ended = neurai("train", *SMALL, "--stop-early", "metric=test_acuracy", "--out", tmp_path / "run")
    assert ended.code == 2
    assert (
        "early-stopping watches 'test_acuracy', which is not a metric of this run. Did you mean 'test_accuracy'"
        in ended.err
    )


def test_a_loss_that_is_not_finite_ends_with_its_step_and_good_parameters(neurai: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = neurai("train", *SMALL, "--optimizer", "sgd", "--lr", "1e30", "--out", folder)
    assert ended.code == 1
    assert "not finite at step 1" in ended.err
    assert "hint: Lower --lr" in ended.err
    from safetensors.numpy import load_file

    assert all(np.isfinite(array).all() for array in load_file(folder / "params.safetensors").values())


@pytest.mark.filterwarnings("default")
def test_a_warning_of_a_rule_is_a_note(neurai: Run) -> None:
    ended = neurai("train", "--model", "mlp:4,4,4,4", "--set", "n=3", "--dry-run")
    assert ended.code == 0
    assert ended.err.startswith(
        "compiling...\nnote: PC: n=3 sweeps leave 2 of 5 layers with gradients of exactly zero."
    )


def test_a_rule_that_cannot_see_into_the_model_says_so(neurai: Run, tmp_path: Path) -> None:
    (tmp_path / "opaque_net.py").write_text(
        "import jax.numpy as jnp\n"
        "def net(): return (lambda params, x: x.reshape(len(x), -1) @ params), jnp.zeros((64, 10))\n"
    )
    spec = neurai_core.AlgorithmSpec(name="needy", summary="A rule that needs layers", needs="layered")
    with neurai_core.temporary(neurai_core.Plugin(spec, "neurai_algorithms.backprop.rule:build")):
        ended = neurai("train", "--rule", "needy", "--model", f"{tmp_path / 'opaque_net.py'}:net", "--dry-run")
    assert ended.code == 2
    assert "needs a model in layers" in ended.err


def idx(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


@pytest.fixture
def truncated(tmp_path: Path) -> str:
    """A folder of IDX files whose images are cut off."""
    labels = b"\x00\x00\x08\x01" + (4).to_bytes(4, "big") + bytes(4)
    images = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (4, 2, 2)) + bytes(9)
    for part in ("train", "t10k"):
        idx(tmp_path, f"{part}-images-idx3-ubyte", images)
        idx(tmp_path, f"{part}-labels-idx1-ubyte", labels)
    return f"idx:{tmp_path}"


@pytest.fixture
def with_nan(tmp_path: Path) -> str:
    """An archive with one NaN."""
    x = np.zeros((8, 3), np.float32)
    x[5, 1] = np.nan
    y = np.arange(8) % 2
    np.savez(tmp_path / "nan.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    return f"npz:{tmp_path / 'nan.npz'}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rule", "bpp"], "Did you mean 'bp'"),
        (["--set", "etta=3"], "'etta', which is neither a setting of the rule 'pc' nor of a run"),
        (["--set", "epoch=3"], "Did you mean 'epochs'"),
        (["--data", "digts"], "Did you mean 'digits'"),
        (["--optimizer", "adm"], "Did you mean 'adam'"),
        (["--set", "optimizer.epss=0.1"], "Did you mean 'eps'"),
        (["--loss", "crossentropi"], "Did you mean 'cross_entropy'"),
        (["--model", "mlp:16,rellu"], "Did you mean 'relu'"),
        (["--lr", "-1"], "lr: input should be greater than 0 (got '-1')"),
        (
            ["--lr", "fast"],
            "lr: expected a number, or a call of optax such as cosine_decay_schedule(0.1, 1000) (got 'fast')",
        ),
        (["--epochs", "0"], "epochs: input should be greater than or equal to 1 (got 0)"),
        (["--batch-size", "5000"], "larger than the 1437 rows"),
        (["--seed", "-1"], "seed: "),
        (["--epochz", "3"], "--epochz"),
        (["--config", "none.toml"], "none.toml cannot be read"),
        (["--resume", "nowhere"], "nowhere holds no run"),
        (["--data", "idx:/nowhere/at/all"], "/nowhere/at/all"),
        (["--data", "npz:/nowhere.npz"], "/nowhere.npz cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence_and_a_hint(neurai: Run, tmp_path: Path, words: list[str], said: str) -> None:
    out = [] if "--resume" in words else ["--out", tmp_path / "run"]
    ended = neurai("train", *words, *out)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not (tmp_path / "run").exists()


def test_a_truncated_idx_file_is_named(neurai: Run, truncated: str, tmp_path: Path) -> None:
    ended = neurai("train", "--data", truncated, "--out", tmp_path / "run")
    assert ended.code == 2
    assert "train-images-idx3-ubyte" in ended.err


def test_nan_in_the_data_is_named_with_row_and_batch(neurai: Run, with_nan: str, tmp_path: Path) -> None:
    ended = neurai("train", "--data", with_nan, "--batch-size", "2", "--out", tmp_path / "run")
    assert ended.code == 2
    assert "x_train of npz holds nan in row 5" in ended.err


def test_a_folder_that_holds_a_run_is_left_alone(neurai: Run, finished: Path) -> None:
    ended = neurai("train", *SMALL, "--out", finished)
    assert ended.code == 2
    assert "already holds a run" in ended.err


def test_a_folder_that_holds_anything_else_is_left_alone(neurai: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    ended = neurai("train", *SMALL, "--out", tmp_path)
    assert ended.code == 2
    assert "is not empty" in ended.err


def test_runs_that_lead_nowhere_are_said_before_work_starts(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(tmp_path / "gone")
    ended = neurai("train", "--rule", "bp", "--model", "mlp:8")
    assert (ended.code, "cannot be written: File exists" in ended.err) == (2, True)


def test_a_folder_that_cannot_be_made_is_said_before_work_starts(neurai: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = neurai("train", *SMALL, "--out", tmp_path / "file" / "run")
    assert ended.code == 2
    assert "cannot be written" in ended.err


def test_what_nobody_expected_is_one_line_and_debug_shows_the_traceback(
    neurai: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the dog ate it\nand more")

    monkeypatch.setattr("neurai_core.training.run.train", broken)
    ended = neurai("train", "--out", tmp_path / "run")
    assert ended.code == 1
    assert ended.err.startswith("error: unexpected RuntimeError: the dog ate it\nhint: Run it again with --debug")
    assert "Traceback" in neurai("train", "--out", tmp_path / "run", "--debug").err


def test_settings_of_early_stopping_may_be_given_one_by_one(neurai: Run) -> None:
    shown = neurai("config", "show", "--stop-early", "patience=2", "--stop-early", "metric=test_accuracy")
    assert "patience=2,metric=test_accuracy" in shown.out

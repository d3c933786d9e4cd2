"""`--activities` and `neurai activities` as their user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

pytestmark = pytest.mark.usefixtures("quick_compile")

Run = Callable[..., Any]
SMALL = ("--epochs", "1", "--batch-size", "200", "--set", "n=3", "--quiet", "--json")
OWN = """
import flax.linen as nn
import jax, jax.numpy as jnp
import neurai_core as neurai

class Classifier(nn.Module):
    n_outputs: int

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(8)(x.reshape(len(x), -1)))
        return nn.Dense(self.n_outputs)(nn.LayerNorm()(h) + h)

def make(input_shape, n_outputs, key):
    model = Classifier(n_outputs)
    return model, model.init(key, jnp.ones((1, *input_shape)))

def opaque():
    return (lambda params, x: jnp.tanh(x.reshape(len(x), -1) @ params["w"]) @ params["v"]), WEIGHTS

def naming():
    def model(params, x):
        h = neurai.activity(jnp.tanh(x.reshape(len(x), -1) @ params["w"]), "h")
        k = neurai.activity(jnp.tanh(h @ params["u"]), "k")
        neurai.activity(k @ params["u"], "h")
        return (h + k) @ params["v"]
    return model, WEIGHTS

def characters(n_outputs):
    def model(params, x):  # (B, T) -> (B, T, C)
        h = neurai.activity(jnp.tanh(params["e"][x] @ params["u"]), "h")
        return h @ params["v"]
    e = jax.random.normal(KEYS[0], (n_outputs, 6))
    return model, {"e": e, "u": WEIGHTS["u"], "v": jnp.zeros((6, n_outputs))}

KEYS = jax.random.split(jax.random.key(0), 3)
SHAPES = {"w": (64, 6), "u": (6, 6), "v": (6, 10)}
WEIGHTS = {name: 0.2 * jax.random.normal(key, shape) for key, (name, shape) in zip(KEYS, SHAPES.items())}
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file with models of the user's own."""
    path = tmp_path / "own_networks.py"
    path.write_text(OWN)
    return str(path)


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_ms"} for row in rows]


# ---------------------------------------------------------------------------- training


@pytest.mark.slow
def test_a_compact_module_of_flax_trains_by_itself_and_again_from_its_configuration(
    neurai: Run, own: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = neurai("train", "--model", f"{own}:make", "--activities", "auto", *SMALL, "--lr", "0.02", "--out", run)
    assert ended.code == 0, ended.err
    assert ended.json["test_accuracy"] > 0.2  # chance is 0.1
    assert tomllib.loads((run / "config.toml").read_text())["activities"] == "auto"
    again = neurai("train", "--config", run / "config.toml", "--out", tmp_path / "again", "-q")
    assert again.code == 0, again.err
    assert metrics(tmp_path / "again") == metrics(run)
    assert neurai("train", "--resume", run, "--json", "-q").json["test_loss"] == ended.json["test_loss"]


@pytest.mark.few(1)
@pytest.mark.parametrize("how", ["layers", "named", "modules", "auto"])
def test_a_built_in_model_trains_with_every_choice(neurai: Run, tmp_path: Path, how: str) -> None:
    ended = neurai("train", "--model", "mlp:8,tanh", "--activities", how, *SMALL, "--out", tmp_path / how)
    assert ended.code == 0, ended.err
    plain = neurai("train", "--model", "mlp:8,tanh", *SMALL, "--out", tmp_path / "plain")
    # Activities move little in three sweeps, so what is before and what is after an activation learns nearly alike.
    assert ended.json["train_loss"] == pytest.approx(plain.json["train_loss"], abs=1e-4)
    assert tomllib.loads((tmp_path / how / "config.toml").read_text())["activities"] == how
    assert "activities" not in tomllib.loads((tmp_path / "plain" / "config.toml").read_text())


def test_a_network_of_a_tutorial_trains_unchanged(neurai: Run, tmp_path: Path) -> None:
    model = Path(__file__).parents[2] / "benchmarks" / "networks" / "equinox_cnn.py"
    mode = (
        "--set",
        "mode=fixed_pred",
        "--set",
        "n=8",
    )  # the fastest to compile; the error has four activities to cross
    words = (*mode, "--lr", "0.02", "--epochs", "2", "--batch-size", "50", "--quiet", "--json")
    ended = neurai("train", "--model", f"{model}:make", "--activities", "auto", *words, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert ended.json["test_accuracy"] > 0.2  # chance is 0.1


TEXT = ("--data", "text", "--set", "data.length=8", "--set", "data.train=1000", "--set", "data.test=100")


@pytest.mark.slow
def test_every_position_of_a_sequence_may_have_a_label(neurai: Run, own: str, tmp_path: Path) -> None:
    words = ("--model", f"{own}:characters", *TEXT, *SMALL[4:], "--batch-size", "50", "--lr", "0.1", "--epochs", "2")
    ended = neurai("train", *words, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    # Nats per character: 2.7 for a network that knows how frequent each is, 1.15 for one that knows pairs.
    assert 1.1 < ended.json["test_loss"] < 2.0
    found = neurai("activities", "--model", f"{own}:characters", *TEXT[:2], "--json").json
    assert found["activities"][0]["shape"] == [64, 32, 6] and found["outputs"]["shapes"] == [[64, 32, 28]]


def test_labels_of_positions_want_outputs_at_positions(neurai: Run, tmp_path: Path) -> None:
    ended = neurai("train", *TEXT, "--model", "mlp:4", "--out", tmp_path / "run")
    assert ended.code == 2 and "text has 28 classes at each of 8 positions" in ended.err
    assert "(B, 8, 28)" in ended.err


@pytest.mark.slow
def test_convolutions_and_names_of_the_users_own_fit(neurai: Run, own: str) -> None:
    for words in (["cnn:4", "--activities", "auto"], [f"{own}:naming"], [f"{own}:naming", "--activities", "named"]):
        ended = neurai("train", "--dry-run", "--model", *words)
        assert ended.code == 0, ended.err


def test_a_model_without_names_is_told_both_ways_out_and_nothing_is_left(neurai: Run, own: str, tmp_path: Path) -> None:
    ended = neurai("train", "--model", f"{own}:opaque", "--out", tmp_path / "run")
    assert ended.code == 2
    assert "names no value" in ended.err
    assert "neurai.activity(" in ended.err and "--activities auto" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rule", "bp", "--activities", "auto"], "Rules that do: "),
        (["--activities", "automatic"], "activities"),
        (["--activities", "layers", "--model", "OWN:opaque"], "--activities auto"),
        (["--activities", "modules", "--model", "OWN:opaque"], "--activities auto"),
    ],
)
def test_what_does_not_fit_is_said(neurai: Run, own: str, tmp_path: Path, words: list[str], said: str) -> None:
    ended = neurai("train", *(word.replace("OWN", own) for word in words), "--out", tmp_path / "run")
    assert ended.code == 2 and ended.err.count("error: ") == 1
    assert said in ended.err
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------- listing


def test_activities_are_listed_with_what_predicts_them(neurai: Run, own: str) -> None:
    found = neurai("activities", "--model", f"{own}:naming", "--json").json
    first = {"parameters": ["w"], "activities": [], "inputs": True}
    second = {"parameters": ["u"], "activities": ["k"], "inputs": False}
    assert found["activities"][0] == {"name": "h", "shape": [64, 6], "predictions": [first, second]}
    assert found["outputs"] == {"shapes": [[64, 10]], "parameters": ["v"], "activities": ["h", "k"], "inputs": False}


def test_the_list_is_a_table_in_order_of_computation(neurai: Run) -> None:
    ended = neurai("activities", "--model", "cnn:8,16", "--data", "digits", "--activities", "auto")
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines() if "(64," in line]
    assert [row[0] for row in rows] == ["0.w", "2.w", "the"]
    assert rows[0][-4:] == ["the", "input", "0.b,", "0.w"]


@pytest.mark.parametrize("model", ["OWN:naming", "cnn:4"])
def test_the_graph_is_drawn_without_a_background(neurai: Run, own: str, tmp_path: Path, model: str) -> None:
    picture = tmp_path / "graph.png"
    ended = neurai("activities", "--model", model.replace("OWN", own), "--picture", picture)
    assert ended.code == 0 and ended.out.splitlines()[-1] == f"Drawn in {picture}"
    pixels = imread(picture)
    assert pixels[0, 0, 3] == 0 and pixels[..., 3].max() == 1


def test_names_and_arrows_are_in_the_picture(neurai: Run, own: str, tmp_path: Path) -> None:
    picture = tmp_path / "graph.svg"
    assert neurai("activities", "--model", f"{own}:naming", "--picture", picture, "--json").json["picture"] == str(
        picture
    )
    drawn = picture.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in drawn for name in ("h", "k", "the input", "the outputs", "(64, 6)"))


def test_the_run_in_a_file_is_listed_whatever_its_rule(neurai: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('rule = "bp"\nmodel = "mlp:5"\n')
    found = neurai("activities", "--config", tmp_path / "c.toml", "--json").json
    assert [one["name"] for one in found["activities"]] == ["layers.0"]


def test_settings_of_the_data_are_taken(neurai: Run) -> None:
    ended = neurai("activities", "--data", "spiking-digits", "--set", "data.widow=1.4")
    assert ended.code == 2 and "widow" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "OWN:opaque"], "--activities auto"),
        (["--model", "mlp:4,rellu"], "Did you mean 'relu'"),
        (["--picture", "none/a.png"], "cannot be written"),
    ],
)
def test_what_cannot_be_listed_is_said(neurai: Run, own: str, words: list[str], said: str) -> None:
    ended = neurai("activities", *(word.replace("OWN", own) for word in words))
    assert ended.code == 2 and said in ended.err and ended.out == ""


def test_its_help_needs_no_jax() -> None:
    program = (
        "import sys\nfrom neurai_core.cli import main\nmain(['activities', '--help'])\nassert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--picture" in done.stdout

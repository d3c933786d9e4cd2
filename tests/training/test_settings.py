"""Flags > --set > file > environment > defaults, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

import neurai_core as neurai
from neurai_core.errors import DataError, NeurAIError, SettingsError, UnknownName, UsageError
from neurai_core.training.setting_texts import data_reference
from neurai_core.training.settings import choose

pytestmark = pytest.mark.contract


class ToyConfig(neurai.Config):
    eta: float = Field(0.1, gt=0, description="step size")
    mode: str = Field("strict", description="a word")
    n: int | None = Field(None, description="how many")
    widths: tuple[int, ...] = Field((1, 2), description="some")
    lr: float = Field(1.0, description="the rule's own")
    formerly: ClassVar = {"step_size": "eta"}


@pytest.fixture
def toy() -> Any:
    spec = neurai.AlgorithmSpec(name="toy-rule", summary="A rule with settings", config=ToyConfig)
    with neurai.temporary(neurai.Plugin(spec, "nowhere:build")):
        yield


def write(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text)
    return path


def test_every_source_wins_over_those_below_it(tmp_path: Path) -> None:
    file = write(tmp_path, "epochs = 2\nseed = 2\nlr = 2.0\n")
    environ = {"NEURAI_EPOCHS": "1", "NEURAI_SEED": "1", "NEURAI_LR": "1", "NEURAI_BATCH_SIZE": "1"}
    chosen = choose({"epochs": 4, "rule": None}, ["epochs=3", "seed=3"], file, environ)
    settings = chosen.settings
    assert (settings.epochs, settings.seed, settings.lr, settings.batch_size) == (4, 3, 2.0, 1)
    named = ("epochs", "seed", "lr", "batch_size", "rule")
    assert [chosen.sources[name] for name in named] == [
        "--epochs",
        "--set",
        str(file),
        "NEURAI_BATCH_SIZE",
        "default",
    ]


def test_the_folder_of_data_is_not_taken_for_the_data_set() -> None:
    assert choose(environ={"NEURAI_DATA": "/somewhere"}).settings.data == "digits"
    assert choose(environ={"NEURAI_DATASET": "fashion-mnist"}).settings.data == "fashion-mnist"


@pytest.mark.usefixtures("toy")
def test_set_reaches_the_rule_first_and_reads_values_as_toml() -> None:
    sets = ["eta=0.5", "mode=7", "n=none", "widths=[3, 4]", "rule.lr=9", "epochs=3", "optimizer.momentum=0.9"]
    chosen = choose({"rule": "toy-rule"}, sets, environ={})
    assert chosen.parts["rule"] == {"eta": 0.5, "mode": "7", "n": None, "widths": [3, 4], "lr": 9}
    assert chosen.parts["optimizer"] == {"momentum": 0.9}
    assert (chosen.settings.epochs, chosen.settings.lr) == (3, 2e-3)
    assert chosen.sources["rule.eta"] == "--set"


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("key", ["ETA", "Step-Size", "stepsize", "rule.Step_Size"])
def test_set_takes_a_setting_in_any_spelling_and_by_its_former_name(key: str) -> None:
    assert choose({"rule": "toy-rule"}, [f"{key}=0.5"], environ={}).parts["rule"] == {"eta": 0.5}
    assert choose({}, ["Rule=toy-rule", f"{key}=0.5"], environ={}).parts["rule"] == {"eta": 0.5}


@pytest.mark.usefixtures("toy")
def test_set_wins_over_the_former_name_in_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'rule = "toy-rule"\n[settings.rule]\nstep_size = 0.5\n')
    assert choose(file=file, environ={}).sources["rule.eta"] == str(file)
    assert choose(sets=["eta=0.25"], file=file, environ={}).parts["rule"] == {"eta": 0.25}
    both = write(tmp_path, 'rule = "toy-rule"\n[settings.rule]\nstep_size = 0.5\neta = 0.25\n')
    with pytest.raises(SettingsError, match="step_size is the former name of eta, and both are given"):
        choose(file=both, environ={})


@pytest.mark.usefixtures("toy")
def test_settings_of_a_rule_do_not_follow_when_another_rule_is_chosen(tmp_path: Path) -> None:
    file = write(tmp_path, 'rule = "toy-rule"\n[settings.rule]\neta = 0.5\n')
    assert choose(file=file, environ={}).parts["rule"] == {"eta": 0.5}
    other = choose({"rule": "bp"}, file=file, environ={})
    assert other.parts["rule"] == {}
    assert "rule.eta" not in other.sources


def test_what_suits_a_rule_gives_way_to_every_other_source(tmp_path: Path) -> None:
    spec = neurai.AlgorithmSpec(
        name="suited", summary="A rule", config=ToyConfig, defaults={"epochs": 7, "seed": 7, "lr": 7.0, "rule.eta": 7.0}
    )
    file = write(tmp_path, "lr = 2.0\n")
    with neurai.temporary(neurai.Plugin(spec, "nowhere:build")):
        chosen = choose({"rule": "suited"}, ["seed=3"], file, {"NEURAI_EPOCHS": "1"})
        assert (chosen.settings.epochs, chosen.settings.seed, chosen.settings.lr) == (1, 3, 2.0)
        assert chosen.parts["rule"] == {"eta": 7.0}
        assert (chosen.sources["rule.eta"], chosen.sources["lr"]) == ("rule suited", str(file))
        assert choose({"rule": "suited"}, ["eta=1"], environ={}).parts["rule"] == {"eta": 1.0}
    assert choose({"rule": "bp"}, environ={}).settings.epochs == 25


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"epoch": 7}, "epoch: not a setting of 'a run'; did you mean 'epochs'?"),
        ({"lr": -1.0}, "lr: input should be greater than 0 (got -1.0)"),
        ({"data": "digit"}, "No dataset is named 'digit'. Did you mean 'digits'?"),
        ({"rule.ett": 7.0}, "ett: not a setting of 'unsuited'; did you mean 'eta'?"),
    ],
)
def test_what_a_spec_gets_wrong_is_not_blamed_on_the_user(defaults: dict[str, Any], said: str) -> None:
    spec = neurai.AlgorithmSpec(name="unsuited", summary="A rule", config=ToyConfig, defaults=defaults)
    with neurai.temporary(neurai.Plugin(spec, "nowhere:build")), pytest.raises(neurai.PluginError) as info:
        choose({"rule": "unsuited"}, environ={})
    assert info.value.message == f"The spec of unsuited@in-process has defaults that a run refuses: {said}"
    assert "Correct defaults= in the spec" in info.value.hint


def test_the_record_of_the_data_does_not_follow_when_other_data_are_chosen(tmp_path: Path) -> None:
    file = write(tmp_path, '[record]\ndata_sha256 = "ab"\nmodel_sha256 = "cd"\n')
    assert choose({"data": "fashion-mnist"}, file=file, environ={}).record == {"model_sha256": "cd"}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("flags", "sets", "kind", "said"),
    [
        ({"rule": "toy_rul"}, [], UnknownName, "Did you mean 'toy-rule'"),
        ({"rule": "toy-rule"}, ["etta=1"], SettingsError, "'etta'.*Did you mean 'eta'"),
        ({"rule": "toy-rule"}, ["eat=1"], SettingsError, "'eat'.*Did you mean 'eta'"),
        ({}, ["eat=1"], SettingsError, "'eat'.*Did you mean 'eta'"),
        ({"rule": "toy-rule"}, ["lr=1"], SettingsError, "lr could be the setting of the rule 'toy-rule' or that of"),
        ({}, ["optimizer=adam(0.01)"], SettingsError, "Write --set rule.optimizer=... for the rule's, --optimizer"),
        ({}, ["rule.optimizer=adam(0.01)"], SettingsError, "optimizer has no meaning in mode strict"),
        ({}, ["rule.optimizer=adam(1e-4)"], SettingsError, "--set got optimizer, which has no meaning in mode strict"),
        ({}, ["mode=exact", "n=20"], SettingsError, "--set got n, which has no meaning in mode exact"),
        ({"rule": "ep"}, ["n_points=4"], SettingsError, "n_points has no meaning in mode two_phase"),
        ({"rule": "bipc"}, ["eta_trace=adam(0.1)", "eta=0.3"], SettingsError, "eta has no meaning beside an eta_trace"),
        ({"data": "spiking-digits"}, ["data.seed=0"], SettingsError, "seed, which has no meaning with coding latency"),
        ({}, ["n=99999999999999999999"], SettingsError, r"less than or equal to 1000000 \(got 99999999999999999999\)"),
        ({}, ["n=" + "9" * 5000], SettingsError, r"n: .*\(got '9{79}\.\.\.\)"),
        ({}, ["n=" + "[" * 5000], SettingsError, "n: .*valid integer"),
        ({"epochs": 10**20}, [], SettingsError, "epochs: .*less than or equal to 1000000"),
        ({"steps": 10**20, "model": "snn:4"}, [], SettingsError, "steps: .*less than or equal to 1000000"),
        ({"batch_size": 10**20}, [], SettingsError, "batch_size: whole numbers end at 4294967296"),
        ({"rule": "toy-rule"}, ["n=99999999999999999999"], SettingsError, "n: whole numbers end at"),
        ({"data": "yin-yang"}, [f"data.train={10**20}"], SettingsError, "train: .*less than or equal to 1000000"),
        ({"data": "mnist"}, [], UnknownName, r"idx:FOLDER \(a folder of IDX files under MNIST's names\)"),
        ({"rule": "r" * 256}, [], UnknownName, "No algorithm is named 'r{256}'"),
        ({"rule": "toy-rule"}, ["eta=-1"], SettingsError, r"eta: .*greater than 0 \(got -1\)"),
        ({"rule": "toy-rule"}, ["eta=fast"], SettingsError, "eta: .*valid number.*'fast'"),
        ({"rule": "toy-rule"}, ["rule.etta=1"], SettingsError, "etta: .*did you mean 'eta'"),
        ({}, ["eta"], SettingsError, "expected key=value"),
        ({}, ["epoch=3"], SettingsError, "Did you mean 'epochs'"),
        ({}, ["data.downlod=true"], SettingsError, "downlod"),
        ({"data": "spike-files:x"}, ["window=1.4"], SettingsError, "'window'.*Did you mean 'data.window'"),
        ({"data": "spike-files:x"}, ["windw=1.4"], SettingsError, "'windw'.*Did you mean 'data.window'"),
        (
            {"data": "spike-files:x"},
            ["zebra=1"],
            SettingsError,
            "'spike-files' has: data.path, data.steps, data.window",
        ),
        ({}, ["zebra=1"], SettingsError, "The data set 'digits' has: no settings"),
        ({"data": "digitz"}, [], UnknownName, "Did you mean 'digits'"),
        ({"data": "digits:folder"}, [], DataError, "takes no path"),
        ({"data": "npy"}, [], SettingsError, "npy is given without a path: folder with.*--data npy:PATH"),
        ({"data": "tonic"}, [], SettingsError, "tonic is given without a name.*--data tonic:NAME"),
        ({"epochs": 0}, [], SettingsError, "epochs: .*got 0"),
        ({"lr": float("nan")}, [], SettingsError, "lr: "),
        ({"schedule": "cosin"}, [], SettingsError, "'cosine' or 'constant'"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_right_thing(
    flags: dict[str, Any], sets: list[str], kind: type[NeurAIError], said: str
) -> None:
    with pytest.raises(kind, match=rf"(?s){said}"):
        choose(flags, sets, environ={})


def test_a_setting_of_the_data_is_given_by_its_full_name() -> None:
    chosen = choose({"data": "spike-files:/x"}, ["data.window=1.4", "data.steps=200"], environ={})
    assert chosen.parts["data"] == {"path": "/x", "window": 1.4, "steps": 200}
    assert chosen.sources["data.window"] == "--set"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", r"c\.toml has epoch, .*Did you mean 'epochs'"),
        ("[setings]", "has setings.*Did you mean 'settings'"),
        ("[settings.rul]", "settings.rul, .*Did you mean 'rule'"),
        ("settings = 3", "expected a table"),
        ("[settings]\nrule = 3", "expected a table"),
        ("epochs = 'many'", "epochs: .*'many'"),
        ("epochs == 3", "is not TOML"),
        ("[settings.rule]\netta = 1", "etta: not a setting of 'pc'"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(file=write(tmp_path, text), environ={})


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 3\r\n")
    assert choose(file=path, environ={}).settings.epochs == 3


def test_what_a_mode_does_not_use_is_refused_and_not_recorded() -> None:
    rule = neurai.algorithm("pc", loss="mse")
    assert "optimizer" not in rule.origin.settings
    inner = neurai.algorithm("pc", loss="mse", mode="incremental", optimizer="adam(0.01)").origin
    assert (inner.settings["optimizer"], "fresh" in inner.settings) == ("adam(0.01)", False)
    assert neurai.rebuild(rule.origin, eta=0.2).origin.settings["eta"] == 0.2
    with pytest.raises(SettingsError, match="optimizer has no meaning in mode strict"):
        neurai.algorithm("pc", loss="mse", optimizer="adam(0.01)")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        choose(file=tmp_path / "none.toml", environ={})


def test_the_path_of_data_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_reference("npz:a.npz") == ("npz", {"path": str(tmp_path / "a.npz")})

"""Lists, descriptions and the configuration: what they say, and that they never import JAX."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

import neurai_core
from neurai_core.cli.options import complete_data, complete_name, complete_rule

pytestmark = pytest.mark.contract

Run = Callable[..., Any]

LIGHT = """
import sys
from neurai_core.cli import main
heavy = {"jax", "optax", "matplotlib", "flax", "equinox", "safetensors", "copier"}
for words in WORDS:
    assert main(words) == 0, words
    assert not heavy & set(sys.modules), (words, heavy & set(sys.modules))
"""
WORDS = [
    ["--version"],
    ["--help"],
    ["train", "--help"],
    ["rules"],
    ["surrogates"],
    ["datasets"],
    ["adapters"],
    ["plugins"],
    ["plugins", "--static"],
    ["describe", "bp"],
    ["describe", "pc", "--equations"],
    ["cite", "bp"],
    ["cite", "neurai"],
    ["config", "show"],
    ["plot", "--help"],
    ["plot", "surrogate", "--help"],
    ["new-rule", "--help"],
]


def test_what_does_not_compute_imports_no_jax_optax_or_matplotlib() -> None:
    code = LIGHT.replace("WORDS", repr(WORDS), 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [("rules", "bp"), ("surrogates", "superspike"), ("datasets", "digits"), ("adapters", "equinox")],
)
def test_lists_are_tables_and_json(neurai: Run, command: str, name: str) -> None:
    assert name in neurai(command).out
    entries = {one["name"]: one for one in neurai(command, "--json").json}
    assert entries[name]["distribution"] == "neurai"
    assert entries[name]["summary"]


def test_a_rule_with_an_alias_has_one_row(neurai: Run) -> None:
    assert "bipc (bpc)" in neurai("rules").out
    listed = [one for one in neurai("rules", "--json").json if one["name"] == "bipc"]
    assert [one["aliases"] for one in listed] == [["bpc"]]
    assert "bpc" not in neurai_core.names("algorithm")
    assert [one["name"] for one in neurai("plugins", "--json").json].count("bipc") == 1
    assert neurai("describe", "bpc", "--json").json["name"] == "bipc"


def test_formulas_are_plain_text_for_people_and_latex_in_json(neurai: Run) -> None:
    listed = neurai("surrogates").out
    assert "\N{GREEK SMALL LETTER SIGMA}(" in listed and "leak if u < 0, else slope" in listed
    assert "\\" not in listed + neurai("describe", "squarewavefourier").out
    assert r"\frac" in neurai("surrogates", "--json").out


class ToyConfig(neurai_core.Config):
    eta: float = Field(0.1, gt=0, le=1, description="step size of the relaxation")


@pytest.fixture
def toy() -> Any:
    spec = neurai_core.AlgorithmSpec(
        name="toy",
        summary="A toy",
        config=ToyConfig,
        references=(neurai_core.Reference(title="Toys", authors="A. Child", year=2001, doi="10.1/2"),),
    )
    with neurai_core.temporary(neurai_core.Plugin(spec, "nowhere:build")):
        yield


@pytest.mark.usefixtures("toy")
def test_describe_shows_settings_with_default_bounds_and_meaning(neurai: Run) -> None:
    shown = neurai("describe", "toy").out
    for part in ("toy (algorithm)", "eta", "float", "0.1", "> 0, <= 1", "step size of the relaxation", "A. Child"):
        assert part in shown
    described = neurai("describe", "TOY", "--json").json
    assert described["settings"][0]["range"] == "> 0, <= 1"


def test_describe_prints_the_equations_of_a_rule_as_they_stand_in_their_file(neurai: Run) -> None:
    file = Path(__file__).parents[2] / "plugins" / "neurai_algorithms" / "predictive_coding" / "equations.py"
    assert neurai("describe", "pc", "--equations").out == file.read_text(encoding="utf-8")
    described = neurai("describe", "pc", "--equations", "--json").json
    assert described["definition"] == neurai("describe", "pc", "--json").json["definition"]
    assert described["name"] == "pc" and described["source"] == file.read_text(encoding="utf-8")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("name", "kind"), [("toy", "algorithm"), ("superspike", "surrogate")])
def test_where_no_definition_is_named_it_says_how_to_name_one(neurai: Run, name: str, kind: str) -> None:
    ended = neurai("describe", name, "--equations")
    assert ended.code == 2 and ended.out == ""
    assert f"The {kind} '{name}' has no definition" in ended.err
    assert 'definition="package.equations:function"' in ended.err


@pytest.mark.parametrize("target", ["no_such_package.equations:f", "neurai_algorithms.no_such_module:f"])
def test_a_definition_that_is_not_there_is_named(neurai: Run, target: str) -> None:
    spec = neurai_core.AlgorithmSpec(name="toy", summary="A toy", definition=target)
    with neurai_core.temporary(neurai_core.Plugin(spec, "nowhere:build")):
        ended = neurai("describe", "toy", "--equations")
    assert ended.code == 2 and ended.out == ""
    assert f"No module is named '{target.partition(':')[0]}'" in ended.err


def test_a_definition_in_an_empty_file_is_one_sentence(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_definition.py").write_text("\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = neurai_core.AlgorithmSpec(name="toy", summary="A toy", definition="toy_definition:f")
    with neurai_core.temporary(neurai_core.Plugin(spec, "nowhere:build")):
        ended = neurai("describe", "toy", "--equations")
    assert ended.code == 2 and ended.out == ""
    assert "The definition of 'toy' is in toy_definition, whose file is empty" in ended.err


@pytest.mark.usefixtures("toy")
def test_cite_prints_bibtex_and_makes_it_where_there_is_none(neurai: Run) -> None:
    cited = neurai("cite", "bp", "toy", "bp").out
    assert cited.count("@article{rumelhart1986learning") == 1
    assert "@misc{toy2001" in cited
    assert "url = {https://doi.org/10.1/2}" in cited


def test_cite_neurai_says_what_the_citation_file_says(neurai: Run) -> None:
    file = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    said = {key: re.search(rf'^(?:  - )?{key}: "?(.+?)"?$', file, re.M)[1] for key in ("title", "version", "name")}
    cited = neurai("cite", "neurai").out.replace("{", "").replace("}", "")
    assert cited.startswith("@softwareneurai2026")
    assert f"title = {said['title']}," in cited and f"author = {said['name']}," in cited
    assert said["version"] == neurai_core.__version__ and f"version = {neurai_core.__version__}" in cited
    released = re.search(r"^date-released: (\S+)$", file, re.M)[1]
    changes = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {said['version']} - {released}" in changes


def test_describe_and_cite_say_what_is_near(neurai: Run) -> None:
    for command in ("describe", "cite"):
        ended = neurai(command, "superspik")
        assert ended.code == 2
        assert "Did you mean 'superspike'" in ended.err


def test_a_list_survives_a_broken_plugin_and_plugins_exits_with_one(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[neurai.algorithms]\nbroken = no_such_module:plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert neurai("plugins", "--static").code == 0
    listed = neurai("rules")
    assert (listed.code, "bp" in listed.out, "broken" in listed.err) == (0, True, True)
    rows = {one["name"]: one for one in neurai("plugins", "--json").json}
    assert rows["broken"]["status"] == "failed"
    assert rows["bp"]["status"] == "ok"
    assert neurai("plugins").code == 1
    doctor = neurai("doctor", "--json")
    assert doctor.code == 1
    assert any("broken" in line for line in doctor.json["wrong"])


def test_doctor_says_what_is_there_and_what_is_wrong(neurai: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = neurai("doctor", "--json").json
    assert fine["wrong"] == []
    for topic in ("python", "jax", "devices", "compilation cache", "algorithm bp", "data of digits"):
        assert fine["findings"][topic]
    monkeypatch.setenv("NEURAI_EPOCH", "3")
    ended = neurai("doctor")
    assert ended.code == 1
    fine, *others = ended.out.splitlines()
    assert re.match(r"fine: python 3\.\d+\.\d+ on .*, neurai .*, jax .*, devices .*, and \d+ more", fine)
    assert [line for line in others if line.startswith("wrong: ")] == [others[-1]]
    assert "Did you mean 'NEURAI_EPOCHS'" in others[-1]
    assert "algorithm bp" not in ended.out


def test_config_show_says_where_each_value_comes_from(
    neurai: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text("seed = 5\nlr = 0.5\n")
    monkeypatch.setenv("NEURAI_BATCH_SIZE", "16")
    words = ("config", "show", "--epochs", "3", "--set", "lr=0.1", "--config", tmp_path / "c.toml")
    shown = neurai(*words, "--json").json
    assert shown["epochs"] == {"value": 3, "source": "--epochs"}
    assert shown["lr"] == {"value": 0.1, "source": "--set"}
    assert shown["seed"] == {"value": 5, "source": str(tmp_path / "c.toml")}
    assert shown["batch_size"] == {"value": 16, "source": "NEURAI_BATCH_SIZE"}
    assert shown["rule"] == {"value": "pc", "source": "default"}
    table = neurai(*words).out
    assert all(source in table for source in ("--epochs", "--set", "NEURAI_BATCH_SIZE", "default"))


def test_help_names_the_default_and_the_variable_of_a_setting(neurai: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = neurai("train", "--help").out
    for part in ("NEURAI_EPOCHS", "NEURAI_DATASET", "mlp:256,128,gelu", "digits", "--set", "--resume", "KEY=VALUE"):
        assert part in shown


def test_the_shell_completes_names() -> None:
    assert "bp" in complete_rule("b")
    assert all(name.startswith("b") for name in complete_rule("b"))
    assert complete_data("fash") == ["fashion-mnist"]
    assert {"bp", "digits", "sigmoid"} <= set(complete_name(""))


def test_a_shell_gets_its_completions_from_the_command() -> None:
    environ = os.environ | {
        "_NEURAI_COMPLETE": "complete_bash",
        "COMP_WORDS": "neurai train --rule b",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([sys.executable, "-m", "neurai_core"], capture_output=True, text=True, env=environ)
    assert "bp" in done.stdout.split(), done.stderr


def test_no_color_is_honored_and_color_can_be_forced(neurai: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;31m" in neurai("train", "--rule", "bpp").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in neurai("train", "--rule", "bpp").err


def test_without_a_command_help_is_shown_and_the_usage_is_wrong(neurai: Run) -> None:
    ended = neurai()
    assert ended.code in (0, 2)
    assert "Usage" in ended.out + ended.err


def test_an_unknown_command_is_wrong_usage(neurai: Run) -> None:
    ended = neurai("trian")
    assert ended.code == 2
    assert "trian" in ended.err


def test_json_on_stdout_is_json_alone(neurai: Run) -> None:
    for words in (("rules",), ("plugins",), ("config", "show"), ("describe", "bp")):
        json.loads(neurai(*words, "--json").out)

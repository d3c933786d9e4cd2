"""A distribution that NeurAI does not know is found by name, trains, and leaves no trace when it is removed.

Where ``neurai-target-projection`` is installed, that installation is tested; elsewhere a folder is made as an
installer would make it. Without it means: the same path, less whatever belongs to it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from neurai_core.offered import offered_modules

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "thirdparty" / "neurai-target-projection"
SURROGATE = SOURCE.with_name("neurai-raised-cosine")
FORWARD_ONLY = SOURCE.with_name("neurai-forward-only")
PACKAGE = "neurai_target_projection"
RULES = ("drtp", "generative-feedback")


class Installation(NamedTuple):
    """A Python path on which NeurAI is, and the third party is or is not."""

    path: list[str]
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("NEURAI_")}
        environ = {**plain, "PYTHONPATH": os.pathsep.join(self.path), "JAX_PLATFORMS": "cpu", "NEURAI_CACHE": "off"}
        # -S: what is on the path is what we say, not what the interpreter finds beside itself.
        call = [sys.executable, "-S", *arguments]
        return subprocess.run(call, cwd=self.folder, env=environ, capture_output=True, text=True, encoding="utf-8")

    def neurai(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "neurai_core", *arguments)


def belongs_to_it(path: Path) -> bool:
    return path.name.startswith((PACKAGE, f"_{PACKAGE}", f"__editable__.{PACKAGE}"))


def less_it(entry: str, folder: Path) -> str:
    """An entry of the path; one that holds the distribution is replaced by links to everything else in it."""
    found = Path(entry)
    if not found.is_dir() or not any(belongs_to_it(one) for one in found.iterdir()):
        return entry
    folder.mkdir()
    for one in found.iterdir():
        if not belongs_to_it(one):
            (folder / one.name).symlink_to(one)
    return str(folder)


def interpreter_path() -> list[str]:
    """The path of this interpreter without what pytest added to it."""
    call = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = json.loads(subprocess.run(call, env=environ, capture_output=True, text=True, check=True).stdout)
    return [entry for entry in found if Path(entry).exists()]


def lay_out(folder: Path, source: Path = SOURCE) -> str:
    """What an installer makes of the distribution."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = source.name.replace("-", "_")
    shutil.copytree(source / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{package}-{project['version']}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head + requires, encoding="utf-8")
    for group, entries in project["entry-points"].items():
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}", encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("without")
    path = [less_it(entry, folder / f"path{i}") for i, entry in enumerate(interpreter_path())]
    return Installation(path, folder)


@pytest.fixture(scope="module")
def installed(without: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installed")
    path = interpreter_path()
    if path == without.path:
        (folder / "site").mkdir()
        path = [lay_out(folder / "site"), *path]
    return Installation(path, folder)


@pytest.fixture(scope="module")
def with_surrogate(without: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("surrogate")
    return Installation([lay_out(folder / "site", SURROGATE), *without.path], folder)


def states(installation: Installation) -> dict[str, str]:
    """Status of every plugin of the distribution, by name."""
    listed = json.loads(installation.neurai("plugins", "--json").stdout)
    return {one["name"]: one["status"] for one in listed if one["distribution"] == SOURCE.name}


@pytest.mark.few(1)
@pytest.mark.parametrize(("rule", "accuracy"), [("drtp", 0.92), ("generative-feedback", 0.93)])
def test_its_rules_train_on_digits_from_the_command_line(installed: Installation, rule: str, accuracy: float) -> None:
    done = installed.neurai("train", "--rule", rule, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rule"] == rule
    assert result["test_accuracy"] >= accuracy


@pytest.mark.slow
def test_its_rule_that_relaxes_and_generates_is_drawn_as_a_built_in_one_is(installed: Installation) -> None:
    run = ("train", "--rule", "generative-feedback", "--model", "mlp:32,tanh", "--epochs", "3", "--quiet", "--out", "g")
    assert installed.neurai(*run).returncode == 0
    made = installed.neurai("generate", "g", "--json")
    assert made.returncode == 0, made.stderr
    figures = json.loads(made.stdout)
    assert figures["generation_floor"] < figures["generation_mse"] and len(figures["reconstruction_mse"]) == 2
    drawn = installed.neurai("plot", "relaxation", "g", "--steps", "5", "--json")
    assert drawn.returncode == 0, drawn.stderr
    (words,) = json.loads(drawn.stdout)["phases"]
    assert words.startswith("The settling phase had ") and "after 5 steps" in words
    assert all((installed.folder / "g" / name).exists() for name in ("generated.png", "relaxation.png"))


def test_its_settings_are_checked_by_its_own_bounds(installed: Installation) -> None:
    done = installed.neurai("train", "--rule", "drtp", "--set", "scale=-1", "--dry-run")
    assert done.returncode == 2
    assert "scale" in done.stderr and "> 0" in done.stderr


def test_it_is_listed_described_and_cited_like_a_built_in_one(installed: Installation) -> None:
    assert states(installed) == dict.fromkeys(RULES, "ok")
    assert "spread of the projections" in installed.neurai("describe", "drtp").stdout
    assert "def definition(config" in installed.neurai("describe", "drtp", "--equations").stdout
    assert "@article{frenkel2021learning" in installed.neurai("cite", "drtp").stdout


def test_removing_it_leaves_no_trace(installed: Installation, without: Installation) -> None:
    assert states(without) == {}
    listing = "import neurai_core as n; print([(k, n.names(k)) for k in ('algorithm', 'surrogate', 'dataset')])"
    before, after = (one.run("-c", listing).stdout for one in (installed, without))
    assert "drtp" in before and "drtp" not in after
    done = without.neurai("train", "--rule", "drtp")
    assert done.returncode == 2
    assert "No algorithm is named 'drtp'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (without.folder / "runs").exists()


def test_a_surrogate_of_a_third_party_trains_a_spiking_network_by_name(with_surrogate: Installation) -> None:
    command = (
        *("train", "--data", "spiking-digits", "--model", "snn:32", "--steps", "15", "--surrogate", "raised-cosine"),
        *("--epochs", "8", "--lr", "0.01", "--json", "--quiet", "--out", "run"),
    )
    done = with_surrogate.neurai(*command, "--set-surrogate", "width=0.5")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test_accuracy"] >= 0.5
    config = tomllib.loads((with_surrogate.folder / "run" / "config.toml").read_text(encoding="utf-8"))
    assert config["settings"]["surrogate"] == {"width": 0.5, "spiking": True}
    assert config["record"]["versions"][SURROGATE.name] == "0.1.0"


def test_no_line_of_neurai_knows_it() -> None:
    names = re.compile(
        r"drtp|target.?projection|generative.?feedback|raised.?cosine|forward.?only|symba", re.IGNORECASE
    )
    files = [path for folder in ("neurai_core", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in files if names.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("source", [SOURCE, FORWARD_ONLY, SURROGATE], ids=lambda path: path.name)
def test_it_imports_only_what_is_offered(source: Path) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in source.glob("neurai_*/*.py"))
    imported = set(re.findall(r"^ *(?:from|import) (neurai_core[\w.]*)", text, re.M))
    assert imported and imported <= set(offered_modules())


def test_what_is_offered_is_on_a_page_of_the_reference() -> None:
    pages = [*(ROOT / "docs" / "reference").glob("*.md"), ROOT / "docs" / "generated" / "neurai_core.md"]
    shown = re.findall(r"^::: ([\w.]+)$", "\n".join(path.read_text(encoding="utf-8") for path in pages), re.M)
    for module in offered_modules():
        assert any(one == module or one.startswith(f"{module}.") for one in shown), module

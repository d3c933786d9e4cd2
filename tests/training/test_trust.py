"""Which code a configuration names, found without running it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neurai_core.errors import UsageError
from neurai_core.training.settings import Chosen, choose
from neurai_core.training.trust import check_trusted, code_of, sha256_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that fails when it is imported."""
    (tmp_path / "pack").mkdir()
    for name in ("__init__.py", "energies.py"):
        (tmp_path / "pack" / name).write_text("raise RuntimeError('imported')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pack"


def from_file(config: Path, text: str) -> Chosen:
    config.write_text(text)
    return choose(file=config, environ={})


def test_code_in_settings_of_a_rule_and_in_packages_is_found(package: Path, tmp_path: Path) -> None:
    text = 'rule = "ep"\n[settings.rule]\nenergy = "pack.energies:mine"\n'
    chosen = from_file(tmp_path / "config.toml", text)
    assert code_of(chosen) == {"rule.energy": ("pack.energies:mine", package / "energies.py")}
    with pytest.raises(UsageError, match=r"rule.energy = 'pack.energies:mine', .* was never recorded"):
        check_trusted(chosen, tmp_path / "config.toml")
    check_trusted(chosen, tmp_path / "config.toml", trust=True)
    known = f'[record.code]\n"rule.energy" = "{sha256_of(package / "energies.py")}"\n'
    check_trusted(from_file(tmp_path / "config.toml", text + known), tmp_path / "config.toml")


def test_code_in_settings_of_every_part_is_found(package: Path, tmp_path: Path) -> None:
    chosen = from_file(tmp_path / "config.toml", 'rule = "bp"\n')
    named = replace(chosen, parts={part: {"maker": "pack.energies:mine"} for part in chosen.parts})
    assert set(code_of(named)) == {f"{part}.maker" for part in ("rule", "data", "surrogate", "optimizer")}


def test_what_the_caller_names_is_the_callers_own(package: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('rule = "bp"\nmodel = "mlp:8"\n')
    chosen = choose({"model": "pack.energies:net"}, file=tmp_path / "config.toml", environ={})
    check_trusted(chosen, tmp_path / "config.toml")


@pytest.mark.parametrize("model", ["mlp:8", "cnn:4,8", "snn:16", "nowhere.at_all:net", "gone.py:net"])
def test_what_names_no_code_needs_no_trust(tmp_path: Path, model: str) -> None:
    assert code_of(from_file(tmp_path / "config.toml", f'rule = "bp"\nmodel = "{model}"\n')) == {}

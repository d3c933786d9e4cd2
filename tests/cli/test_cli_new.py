"""``neurai new-rule`` and ``neurai new-surrogate``: what they write, and what they say to bad input."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.template import Names, create

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copier() -> Any:
    return pytest.importorskip("copier")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_writes_a_distribution_and_says_how_to_go_on(neurai: Run, copier: Any) -> None:
    ended = neurai("new-rule", "my-rule")
    assert ended.code == 0, ended.err
    assert files(Path("neurai-my-rule")) == [
        ".github/workflows/tests.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "neurai_my_rule/__init__.py",
        "neurai_my_rule/equations.py",
        "neurai_my_rule/references.bib",
        "neurai_my_rule/rule.py",
        "neurai_my_rule/spec.py",
        "pyproject.toml",
        "test_neurai_my_rule.py",
    ]
    assert "cd neurai-my-rule" in ended.out and "neurai train --rule my-rule" in ended.out


@pytest.mark.parametrize(("command", "group"), [("new-rule", "algorithms"), ("new-surrogate", "surrogates")])
def test_its_files_are_complete_and_valid(command: str, group: str, neurai: Run, copier: Any) -> None:
    assert neurai(command, "My_Own", "here/there").code == 0
    folder = Path("here", "there")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in files(folder)}
    for name, text in texts.items():
        marks = text.replace("${{ matrix.python }}", "")
        assert "{{" not in marks and "{%" not in marks and text.endswith("\n"), name
        if name.endswith(".py"):
            compile(text, name, "exec")
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["name"] == "neurai-my-own"
    assert project["entry-points"] == {f"neurai.{group}": {"My_Own": "neurai_my_own.spec:plugin"}}
    assert "class MyOwn" in texts["neurai_my_own/spec.py"]


def test_its_workflow_runs_what_its_readme_says(neurai: Run, copier: Any) -> None:
    yaml = pytest.importorskip("yaml")
    assert neurai("new-rule", "my-rule").code == 0
    readme = Path("neurai-my-rule", "README.md").read_text(encoding="utf-8").splitlines()
    job = yaml.safe_load(Path("neurai-my-rule", ".github", "workflows", "tests.yml").read_text(encoding="utf-8"))[
        "jobs"
    ]
    commands = [step["run"] for step in job["tests"]["steps"] if "run" in step]
    assert commands == ['python -m pip install ".[test]"', "python -m pytest", "neurai check my-rule"]
    assert {*commands[1:], 'python -m pip install -e ".[test]"'} <= {*readme}


def test_an_empty_folder_is_filled(neurai: Run, copier: Any) -> None:
    assert neurai("new-surrogate", "my-shape", ".").code == 0
    assert "neurai_my_shape/shape.py" in files(Path())


def test_a_name_with_the_prefix_of_neurai_does_not_get_it_twice() -> None:
    assert Names.of("algorithm", "neurai-hebb").distribution == "neurai-hebb"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("P_C", "The algorithm 'P_C' is already there: pc@neurai", "another name"),
        ("bpc", "The algorithm 'bpc' is already there: bipc@neurai", "another name"),
        ("core", "the package 'neurai_core' is already there", "another name"),
        ("none", "'None' already means something", "my-none"),
        ("surrogate", "'Surrogate' already means something", "my-surrogate"),
        ("my rule", "'my rule' cannot name a package", "For example my-rule."),
        ("größe", "cannot name a package", "For example grosse."),
        ("3-factor", "cannot name a package", "For example my-3-factor."),
        ("../rule", "cannot name a package", "For example my-rule."),
        ("my--rule", "cannot name a package", "For example my-rule."),
        ("", "'' cannot name a package", "For example my-rule."),
        ("a" * 300, "cannot be written", "another folder"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_sentence(
    name: str, message: str, hint: str, neurai: Run, copier: Any, empty_folder: Path
) -> None:
    ended = neurai("new-rule", name)
    assert ended.code == 2
    said, help = ended.err.splitlines()
    assert message in said and hint in help
    assert [*empty_folder.iterdir()] == []


def test_a_name_that_a_switch_hides_is_taken_too(neurai: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAI_BLOCK", "pc")
    ended = neurai("new-rule", "pc")
    assert ended.code == 2 and "blocked by NEURAI_BLOCK=pc" in ended.err


def test_a_rule_may_have_the_name_of_a_surrogate(neurai: Run, copier: Any) -> None:
    assert neurai("new-rule", "superspike").code == 0


@pytest.mark.parametrize("folder", ["full", "full/file", "full/file/below"])
def test_a_folder_that_cannot_be_used_stays_as_it_is(folder: str, neurai: Run, copier: Any, empty_folder: Path) -> None:
    Path("full").mkdir()
    Path("full", "file").write_text("mine", encoding="utf-8")
    ended = neurai("new-rule", "my-rule", folder)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 2 and repr(folder) in ended.err
    assert files(empty_folder) == ["full/file"] and Path("full", "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(
    there: bool, error: BaseException, copier: Any, empty_folder: Path, neurai: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, folder: Path, **options: Any) -> None:
        (folder / "package").mkdir()
        (folder / "package" / "half.py").write_text("", encoding="utf-8")
        (folder / "half.toml").write_text("", encoding="utf-8")
        raise error

    monkeypatch.setattr(copier, "run_copy", fail)
    if there:
        Path("a").mkdir()
    ended = neurai("new-rule", "my-rule", "a" if there else "a/b/c")
    assert ended.code == (2 if isinstance(error, OSError) else 130)
    assert ("No space left on device" in ended.err) == isinstance(error, OSError)
    assert [*empty_folder.rglob("*")] == ([empty_folder / "a"] if there else [])


def test_without_copier_the_error_says_how_to_get_it(
    neurai: Run, monkeypatch: pytest.MonkeyPatch, empty_folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "copier", None)
    ended = neurai("new-rule", "my-rule")
    assert ended.code == 2
    assert "needs 'copier', which is not installed" in ended.err and "pip install 'neurai[template]'" in ended.err
    assert [*empty_folder.iterdir()] == []


def test_settings_that_a_user_has_for_copier_play_no_part(copier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("settings.yml").write_text("defaults:\n  name: theirs\n  package: theirs\n", encoding="utf-8")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", "settings.yml")
    create("algorithm", "my-rule", Path("new"))
    assert "theirs" not in Path("new", "pyproject.toml").read_text(encoding="utf-8")

"""The documentation does what it says: every block of code and every example in a docstring is run.

On a page, the Python blocks run in order in one namespace. A block with a file name as its title is that file; the
files of a page make one distribution, found like an installed one. Lines of a console block that begin with
``neurai`` are run.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import neurai_core

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = (
    "neurai_core",
    "neurai_algorithms",
    "neurai_surrogates",
    "neurai_adapters",
    "neurai_datasets",
    "neurai_observers",
)
NEEDED = {"equinox": "neurai_adapters.equinox", "flax": "neurai_adapters.flax"}
LONG_PYTHON = ("any-network", "comparing", "forward-only", "gallery", "gallery-networks", "models", "sweeping")
LONG_COMMANDS = (
    "any-network",
    "bidirectional",
    "command-line",
    "comparing",
    "devices",
    "equilibrium-propagation",
    "sweeping",
    "target-propagation",
)
FENCE = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S)


class Block(NamedTuple):
    """A block of code on a page."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["title"] or "", found["text"], text[: found.start()].count("\n") + 2)
        for found in FENCE.finditer(text)
    ]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(one.language == language for one in blocks(page))]


def page_id(page: Path) -> str:
    return page.stem


def cases(language: str, long: tuple[str, ...]) -> list[Any]:
    """The pages with code of a language; those that take long are slow tests."""
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(page, marks=marks[page.stem in long], id=page_id(page)) for page in pages_with(language)]


def write_distribution(page: Path, folder: Path) -> None:
    """The files of a page, and the metadata by which the distribution they make is found."""
    titled = [one for one in blocks(page) if one.title]
    for one in titled:
        (folder / one.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / one.title).write_text(one.text, encoding="utf-8")
    for one in titled:
        if one.title == "pyproject.toml":
            write_metadata(tomllib.loads(one.text)["project"], folder)


def write_metadata(project: dict, folder: Path) -> None:
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head + requires, encoding="utf-8")
    groups = project["entry-points"].items()
    lines = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups)
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def distribution(page: Path, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """The folder of a page's distribution, on the path; its modules are forgotten afterwards."""
    write_distribution(page, tmp_path)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = (getattr(module, "__file__", None), *getattr(module, "__path__", ()))  # a folder alone has no file
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("page", cases("python", LONG_PYTHON))
def test_the_python_of_a_page_runs(page: Path, distribution: Path) -> None:
    for library in NEEDED:
        if f"import {library}" in page.read_text(encoding="utf-8"):
            pytest.importorskip(library)
    module = ModuleType("page")
    for one in blocks(page):
        if one.language == "python" and not one.title:
            source = "\n" * (one.line - 1) + one.text  # tracebacks name the line of the page
            exec(compile(source, str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("page", pages_with("python"), ids=page_id)
def test_the_tests_of_a_page_pass(page: Path, distribution: Path) -> None:
    names = [Path(one.title).stem for one in blocks(page) if Path(one.title).name.startswith("test_")]
    for test in (test for name in names for test in vars(importlib.import_module(name)).values()):
        if getattr(test, "__name__", "").startswith("test_") and not hasattr(
            test, "pytestmark"
        ):  # no conformance tests
            test()


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("page", cases("console", LONG_COMMANDS))
def test_the_commands_of_a_page_succeed(page: Path, distribution: Path, capsys) -> None:
    from neurai_core.cli import main

    for command in commands(page):
        assert main(shlex.split(command, comments=True)[1:]) == 0, f"{command}\n{capsys.readouterr().err}"


def commands(page: Path) -> list[str]:
    """The commands of a page; the README spells the environment out, and a bare `train` is timed elsewhere.

    `neurai new-rule` and checks of what it writes are tested with the template; here, it is already on the path.
    """
    texts = [one.text.replace("\\\n", " ") for one in blocks(page) if one.language == "console"]
    lines = [line for text in texts for line in text.splitlines()]
    found = [line.removeprefix(".venv/bin/") for line in lines]
    left_out = ("neurai train --data fashion-mnist", "neurai new-", "neurai check my-rule", "neurai check my-shape")
    if importlib.util.find_spec("optuna") is None:
        found = [one for one in found if "--search" not in one]
    return [
        one for one in found if one.startswith("neurai ") and one != "neurai train" and not one.startswith(left_out)
    ]


# ---------------------------------------------------------------------------- docstrings


def modules() -> Iterator[str]:
    for name in PACKAGES:
        yield name
        paths = importlib.util.find_spec(name).submodule_search_locations
        yield from (one.name for one in pkgutil.walk_packages(paths, f"{name}.") if "__main__" not in one.name)


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_in_docstrings_are_true(name: str, tmp_path: Path, monkeypatch) -> None:
    for library, prefix in NEEDED.items():
        if name.startswith(prefix):
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


# ---------------------------------------------------------------------------- the site


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    linked = set(re.findall(r'"([\w/-]+\.md)"', navigation))
    folder = ROOT / "docs"
    assert linked == {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")}


def test_every_link_and_picture_of_the_readme_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_every_definition_of_a_rule_is_included_in_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    included = set(re.findall(r'^ *--8<-- "([^":]+)(?::\w+)?"$', text, re.M))
    assert all((ROOT / path).exists() for path in included)
    definitions = [neurai_core.spec("algorithm", name).definition or "" for name in neurai_core.names("algorithm")]
    ours = [one.partition(":")[0].replace(".", "/") for one in definitions if one.startswith("neurai_algorithms.")]
    assert ours and {f"plugins/{module}.py" for module in ours} <= included


def test_every_public_module_is_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    described = set(re.findall(r"^::: ([\w.]+)", text, re.M))
    homes = {f"neurai_core.{module}" for module in neurai_core._HOME if not module.startswith("grads")}
    assert homes <= described


def test_the_site_asks_no_other_host_for_anything() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert settings["theme"]["font"] is False
    assert not settings.get("extra_javascript")
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.css"))
    assert "http" not in text and "@import" not in text
    assert '"neurai-math.woff2"' in text and (ROOT / "docs" / "assets" / "neurai-math.LICENSE.txt").exists()


def table_rows(page: Path) -> Iterator[list[str]]:
    """The rows of every table, one list per table."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    yield from (found[0].splitlines() for found in re.finditer(r"(?:^\|.*\n)+", prose, re.M))


def cells(row: str) -> int:
    """A bar in code or after a backslash ends no cell."""
    return len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) - 1


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=page_id)
def test_no_bar_of_a_formula_ends_a_cell(page: Path) -> None:
    for rows in table_rows(page):
        assert {cells(row) for row in rows} == {cells(rows[0])}, rows[0]

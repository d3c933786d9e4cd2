"""What `neurai new-rule` writes passes its own tests, unedited, in a fresh environment with its wheel and the core's.

JAX and pytest come from the environment that runs this test, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from neurai_core.template import create
from neurai_core.testing.conformance import KITS

ROOT = Path(__file__).resolve().parent.parent
TRIALS = {
    "algorithm": (
        "new-rule",
        "my-rule",
        ("train", "--rule", "my-rule", "--epochs", "1", "--model", "mlp:16", "--quiet"),
    ),
    "surrogate": ("new-surrogate", "my-shape", ("plot", "surrogate", "my-shape")),
}

for module in ("copier", "hatchling"):
    pytest.importorskip(module)


class Environment(NamedTuple):
    """A virtual environment, and a folder to work in."""

    bin: Path
    folder: Path

    def run(self, command: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        """What a command of the environment prints; it must succeed."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NEURAI_", "PYTHON"))}
        done = subprocess.run(
            [self.bin / command, *arguments],
            cwd=cwd or self.folder,
            env={**environ, "JAX_PLATFORMS": "cpu", "NEURAI_CACHE": "off"},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, source: Path) -> None:
        """Build the wheel of a folder, and install it."""
        wheels = self.folder / "wheels" / source.name
        self.run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", wheels, cwd=source)
        self.run(
            "python",
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--no-index",
            "--ignore-installed",
            "--quiet",
            *wheels.glob("*.whl"),
        )


@pytest.mark.parametrize(("kind", "page"), [("algorithm", "writing-a-rule"), ("surrogate", "writing-a-surrogate")])
def test_the_page_shows_the_files_that_it_writes(kind: str, page: str, tmp_path: Path) -> None:
    create(kind, TRIALS[kind][1], tmp_path)
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.M | re.S))
    assert len(shown) >= 4
    assert shown == {title: (tmp_path / title).read_text(encoding="utf-8") for title in shown}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the core's wheel, and what this one has."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True, symlinks=os.name != "nt")
    made = Environment(folder / "venv" / ("Scripts" if os.name == "nt" else "bin"), folder)
    site = made.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    outer = [path for path in sys.path if path.endswith("site-packages")]  # after its own: the wheels come first
    Path(site, "outer.pth").write_text("\n".join(outer), encoding="utf-8")
    made.install(ROOT)
    return made


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", TRIALS)
def test_a_new_distribution_passes_its_own_tests_where_it_is_installed(kind: str, fresh: Environment) -> None:
    if kind not in KITS:
        pytest.skip(f"there are no checks of {kind}s")
    command, name, trial = TRIALS[kind]
    made = fresh.folder / name
    fresh.run("neurai", command, name, made)
    fresh.install(made)
    tests = fresh.folder / f"{name}-tests"  # apart from the sources, so that the wheel is what is tested
    tests.mkdir()
    for test in made.glob("test_*.py"):
        shutil.copy(test, tests)
    assert " passed" in fresh.run("python", "-m", "pytest", "-q", "-W", "error", cwd=tests)
    fresh.run("neurai", *trial)


@pytest.mark.parametrize("kind", TRIALS)
def test_the_template_of_a_wheel_is_that_of_the_checkout(kind: str, fresh: Environment, tmp_path: Path) -> None:
    fresh.run("neurai", TRIALS[kind][0], "the-same", tmp_path / "wheel")
    create(kind, "the-same", tmp_path / "checkout")
    wheel, checkout = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "wheel", tmp_path / "checkout")
    )
    assert wheel == checkout and len(wheel) > 5

"""Real distributions on disk, and a fresh interpreter to look at them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

import pytest

import neurai_core
from neurai_core.registry import Registry
from neurai_core.registry.kinds import KINDS

SWITCHES = ("NEURAI_ONLY", "NEURAI_BLOCK", "NEURAI_PREFER", "NEURAI_DISABLE_PLUGIN_AUTOLOAD", "NEURAI_TRACE")


@dataclass(frozen=True)
class Site:
    """A folder of installed distributions."""

    path: Path

    def add(
        self,
        distribution: str,
        source: str | None = None,
        *,
        entries: Mapping[str, str] | None = None,
        group: str = "neurai.algorithms",
        version: str = "1.0",
        requires: tuple[str, ...] = (),
    ) -> str:
        """Write a distribution of one module; its name is returned.

        Without a source the module holds a working plugin for the first entry. Entries are name -> attribute,
        or ``module:attribute``.
        """
        module = distribution.replace("-", "_")
        entries = entries or {module: "plugin"}
        source = algorithm_source(next(iter(entries))) if source is None else source
        (self.path / f"{module}.py").write_text(dedent(source))
        values = {name: value if ":" in value else f"{module}:{value}" for name, value in entries.items()}
        self.add_metadata(distribution, values, group=group, version=version, requires=requires)
        return module

    def add_metadata(
        self,
        distribution: str,
        entries: Mapping[str, str],
        *,
        group: str,
        version: str,
        requires: tuple[str, ...],
    ) -> None:
        """Write the ``dist-info`` folder of a distribution."""
        folder = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        points = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (folder / "entry_points.txt").write_text(f"[{group}]\n{points}\n")


def algorithm_source(name: str, claims: tuple[str, ...] = ()) -> str:
    """The module of a working plugin that builds a dict of what it was given."""
    return f"""
        from pydantic import Field
        from neurai_core.plugin import Plugin
        from neurai_core.specs import AlgorithmSpec, Config

        class Settings(Config):
            eta: float = Field(0.1, gt=0, description="step size")

        class Pretty:
            pass

        def build(config, **context):
            return {{"name": {name!r}, "eta": config.eta, **context}}

        spec = AlgorithmSpec(
            name={name!r},
            summary="A rule",
            config=Settings,
            claims={claims!r},
            offers={{"Pretty": __name__ + ":Pretty"}},
        )
        plugin = Plugin(spec, __name__ + ":build")
    """


TESTS = Path(__file__).resolve().parent.parent
WRITTEN = {TESTS, TESTS.parent} - {Path(neurai_core.__file__).resolve().parent.parent}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No switch of the caller's shell reaches a test."""
    for switch in SWITCHES:
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder on ``sys.path`` to install distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    # Other tests write into the working folder meanwhile, and a folder that changes is scanned anew.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() not in WRITTEN])
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for module in [path.stem for path in folder.glob("*.py")]:
        sys.modules.pop(module, None)


@pytest.fixture
def registry() -> Registry:
    """A registry that has seen nothing yet, and hands on whatever a plugin builds."""
    return Registry(replace(kind, builds="", admit="") for kind in KINDS)


@pytest.fixture
def alone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that are installed are blocked, each of which would start an interpreter where plugins are isolated."""
    monkeypatch.setenv("NEURAI_BLOCK", ",".join({row.distribution for row in registry.plugins(static=True)}))


@pytest.fixture
def source() -> Callable[..., str]:
    """Writes the module of a working plugin."""
    return algorithm_source


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a fresh interpreter, with the site on its path; returns what it printed."""

    def run(code: str, **environment: str) -> str:
        clean = {key: value for key, value in os.environ.items() if key not in SWITCHES}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", dedent(code)],
            env={**clean, "PYTHONPATH": str(tmp_path / "site"), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

"""Commands, run inside this process and as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from neurai_core.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed on stdout, which is one JSON value and nothing else."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine decides a test."""
    for name in [*os.environ]:
        if name.startswith("NEURAI_") or name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NEURAI_CACHE", "off")


@pytest.fixture
def neurai(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process."""

    def run(*words: str | Path) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own."""

    def begin(*words: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "neurai_core", *map(str, words)]
        return subprocess.Popen(command, text=True, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return begin

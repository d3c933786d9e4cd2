"""The compilation cache of commands: private, bounded, and without a say in the numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from neurai_core.cli import compilation_cache
from neurai_core.cli.compilation_cache import chosen_folder, configured_for_jax, entries, programs_kept, shrink

Run = Callable[..., Any]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


@pytest.fixture(autouse=True)
def nothing_configured_for_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may keep programs of JAX."""
    monkeypatch.setattr(compilation_cache, "configured_for_jax", lambda: "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is chosen, not made yet."""
    monkeypatch.setenv("NEURAI_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def compile_anew(number: float) -> float:
    """Compile a program that depends on the number, also if this process has done so before."""
    jax.clear_caches()
    return float(jax.jit(lambda x: jnp.sin(x) * number)(1.0))


def test_a_command_keeps_its_programs_in_a_private_folder(folder: Path) -> None:
    before = jax.config.jax_compilation_cache_dir
    with programs_kept():
        first = compile_anew(3.0)
        kept = entries(folder)
        assert kept
        assert compile_anew(3.0) == first
        assert len(entries(folder)) == len(kept)
    if os.name == "posix":
        assert folder.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_dir == before
    compile_anew(4.0)
    assert len(entries(folder)) == len(kept)


def test_neither_a_damaged_file_nor_a_lost_folder_stops_a_command(folder: Path) -> None:
    with programs_kept():
        expected = compile_anew(5.0)
    for _, _, path in entries(folder):
        path.write_bytes(path.read_bytes()[:20])
    with programs_kept():
        assert compile_anew(5.0) == expected
        shutil.rmtree(folder)
        assert compile_anew(5.0) == expected


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The note about a cache that cannot be used; what is computed in the block goes on."""
    with programs_kept():
        assert compile_anew(6.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("note: ") and "continues without it" in lines[0]
    return lines[0]


def test_a_relative_path_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NEURAI_CACHE", "here/cache")
    assert "NEURAI_CACHE is 'here/cache', expected an absolute path." in said(capsys)
    assert not Path("here").exists()


def test_a_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.parent.mkdir()
    folder.touch()
    assert f"The compilation cache {folder} is a file." in said(capsys)


def test_a_folder_that_cannot_be_made_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.parent.touch()
    assert f"The compilation cache {folder} cannot be made: Not a directory." in said(capsys)


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_folder_that_others_can_write_into_is_refused(
    folder: Path, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert f"Others can write into the compilation cache {folder}." in said(capsys)
    assert entries(folder) == []


@posix
def test_a_folder_that_others_can_replace_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o777)
    assert f"Others can replace the compilation cache {folder}: {folder.parent} is open to all." in said(capsys)


@posix
def test_a_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert f"The compilation cache {folder} belongs to another user." in said(capsys)


def test_the_programs_used_last_are_kept_and_other_files_never_touched(tmp_path: Path) -> None:
    for age, name in enumerate(("newest-cache", "older-cache", "oldest-cache", "notes.txt")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    shrink(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"newest-cache", "older-cache", "notes.txt"}


@pytest.mark.parametrize(
    ("system", "environ", "expected"),
    [
        ("Linux", {}, ".cache/neurai"),
        ("Linux", {"XDG_CACHE_HOME": "relative"}, ".cache/neurai"),
        ("Darwin", {"XDG_CACHE_HOME": "/elsewhere"}, "Library/Caches/neurai"),
        ("Windows", {}, "AppData/Local/neurai"),
    ],
)
def test_the_folder_is_that_of_the_platform(
    system: str, environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    assert chosen_folder(environ) == Path.home() / expected


def test_the_cache_is_off_if_asked_and_where_the_user_has_one_for_jax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen_folder({"NEURAI_CACHE": ""}) is None
    assert chosen_folder({"NEURAI_CACHE": "Off"}) is None
    assert chosen_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "neurai"
    monkeypatch.setenv("NEURAI_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(compilation_cache, "configured_for_jax", configured_for_jax)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    try:
        with programs_kept():
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not (tmp_path / "ours").exists()


def test_doctor_shows_the_cache(neurai: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with programs_kept():
        compile_anew(7.0)
    (folder / "more-cache").write_bytes(bytes(3 * 2**20))
    assert neurai("doctor", "--json").json["findings"]["compilation cache"] == f"{folder}, 3.0 of at most 512 MiB"
    monkeypatch.setenv("NEURAI_CACHE", "")
    assert neurai("doctor", "--json").json["findings"]["compilation cache"] == "off, by NEURAI_CACHE"
    monkeypatch.setenv("NEURAI_CACHE", "relative")
    wrong = neurai("doctor")
    assert wrong.code == 1
    assert "wrong: compilation cache: NEURAI_CACHE is 'relative', expected an absolute path." in wrong.out


@pytest.mark.slow
def test_a_run_has_the_same_bits_whether_its_programs_are_compiled_or_kept(folder: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environ |= {"JAX_PLATFORMS": "cpu", "JAX_LOG_COMPILES": "1"}

    def train(run: str) -> str:
        words = ("train", "--model", "mlp:6", "--epochs", "1", "--quiet", "--out", str(tmp_path / run))
        command = [sys.executable, "-m", "neurai_core", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stderr

    cold, warm = train("cold"), train("warm")
    for program in ("start", "step", "scores"):
        assert f"Persistent compilation cache hit for 'jit_{program}'" not in cold
        assert f"Persistent compilation cache hit for 'jit_{program}'" in warm
    written = sorted(path.relative_to(tmp_path / "cold") for path in (tmp_path / "cold").rglob("*.safetensors"))
    assert len(written) == 2
    for path in written:
        assert (tmp_path / "cold" / path).read_bytes() == (tmp_path / "warm" / path).read_bytes()

"""The compilation cache of commands: compiled programs, kept in a private folder from one command to the next.

What JAX keeps there is executable code, so the folder has to belong to the user alone. Importing NeurAI turns nothing
on, and a cache that the user has configured for JAX itself is used unchanged.
"""

from __future__ import annotations

import os
import platform
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from neurai_core.cli.output import note
from neurai_core.errors import NeurAIError, OutputError, UsageError

VARIABLE = "NEURAI_CACHE"
MOST = 512 * 2**20  # bytes of the programs that are kept
_HINT = f"The command continues without it. Choose another one with {VARIABLE}, or turn it off with {VARIABLE}=off."


@contextmanager
def programs_kept() -> Iterator[None]:
    """Keep what is compiled in a ``with`` block; where that cannot be done, a note says why."""
    folder = None
    try:
        folder = None if configured_for_jax() else usable_folder(os.environ)
    except NeurAIError as error:
        note(f"{error.message} {error.hint}")
    if folder is None:
        yield
        return
    shrink(folder)
    with _used_by_jax(folder), warnings.catch_warnings():
        # A full disk or a damaged file: then the program is compiled.
        warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache")
        yield


def configured_for_jax() -> str:
    """What the user has configured for JAX's own cache: its folder, "off", or "" for nothing.

    >>> import jax
    >>> configured_for_jax() == (jax.config.jax_compilation_cache_dir or "")
    True
    """
    import jax

    folder = str(getattr(jax.config, "jax_compilation_cache_dir", None) or "")
    return folder or ("" if getattr(jax.config, "jax_enable_compilation_cache", True) else "off")


def usable_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder that the environment chooses, made if it is not there; None turns the cache off.

    Raises:
        UsageError: it is a relative path, or there is no home.
        OutputError: it cannot be made, or is not private.
    """
    folder = chosen_folder(environ)
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(folder)
    except OSError as error:
        reason = "is a file" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror or error}"
        raise OutputError(f"The compilation cache {folder} {reason}.", _HINT) from error
    return folder


def chosen_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder that the environment chooses; None turns the cache off.

    Raises:
        UsageError: it is a relative path, or there is no home.

    >>> chosen_folder({"NEURAI_CACHE": "/scratch/me/neurai"})
    PosixPath('/scratch/me/neurai')
    >>> chosen_folder({"NEURAI_CACHE": "off"})
    """
    given = environ.get(VARIABLE)
    if given is None:
        return _default_folder(environ)
    if given.strip().lower() in ("", "off"):
        return None
    folder = Path(given)
    if not folder.is_absolute():
        raise UsageError(f"{VARIABLE} is {given!r}, expected an absolute path.", _HINT)
    return folder


def check_private(folder: Path) -> None:
    """Check that nobody else can put code into a folder.

    Raises:
        OutputError: it belongs to someone else, or others can write into it or replace it.
    """
    found = folder.stat()
    if os.name != "posix":
        return
    if found.st_uid != os.geteuid():
        raise OutputError(f"The compilation cache {folder} belongs to another user.", _HINT)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OutputError(f"Others can write into the compilation cache {folder}.", f"Run chmod 700 on it. {_HINT}")
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise OutputError(f"Others can replace the compilation cache {folder}: {parent} is open to all.", _HINT)


def entries(folder: Path) -> list[tuple[float, int, Path]]:
    """The programs in a folder, those used last first: ``(time of last use, bytes, file)``."""
    found = []
    for path in folder.glob("*-cache"):  # JAX's name of an entry; nothing else is counted, or removed
        with suppress(OSError):  # another command may have removed it
            facts = path.stat()
            found.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
    return sorted(found, reverse=True)


def shrink(folder: Path, most: int = MOST) -> None:
    """Remove the programs that were not used for longest, until the rest has at most ``most`` bytes.

    JAX's own limit needs a further package, and holds a lock while it reads.
    """
    total = 0
    for _, size, path in entries(folder):
        total += size
        if total > most:
            with suppress(OSError):
                path.unlink()


def _default_folder(environ: Mapping[str, str]) -> Path:
    """The folder for caches of this platform, and in it ours."""
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UsageError("There is no home folder for a compilation cache.", _HINT) from error
    given = {"Windows": "LOCALAPPDATA", "Darwin": ""}.get(platform.system(), "XDG_CACHE_HOME")
    usual = {"Windows": "AppData/Local", "Darwin": "Library/Caches"}.get(platform.system(), ".cache")
    base = Path(environ.get(given, ""))
    return (base if base.is_absolute() else home / usual) / "neurai"


@contextmanager
def _used_by_jax(folder: Path) -> Iterator[None]:
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_persistent_cache_enable_xla_caches": "none",  # files beside the programs, which nothing bounds
    }
    before = {name: getattr(jax.config, name) for name in settings}
    _update(settings)
    reset_cache()
    try:
        yield
    finally:
        _update(before)
        reset_cache()


def _update(settings: Mapping[str, object]) -> None:
    import jax

    for name, value in settings.items():
        jax.config.update(name, value)

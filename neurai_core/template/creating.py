"""Writing a new distribution: the files of its kind, rendered by copier, or nothing at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurai_core.errors import OutputError, missing_extra
from neurai_core.registry.entries import core_version
from neurai_core.registry.kinds import KINDS
from neurai_core.template.names import Names

_FILES = Path(__file__).with_name("files")
_NOUNS = {"algorithm": "learning rule", "surrogate": "surrogate"}


def create(kind: str, name: str, folder: Path | None = None) -> tuple[Names, Path]:
    """Write a new distribution with a plugin that works and passes its own tests.

    Args:
        kind: ``algorithm`` or ``surrogate``.
        name: lookup name of the plugin.
        folder: where to write it, empty or missing; by default a folder with the name of the distribution.

    Returns:
        The names in it, and the folder.

    Raises:
        UsageError: the name is not valid, or taken.
        OutputError: the folder cannot be used; nothing is left in it.
        MissingExtra: copier is not installed.
    """
    names = Names.of(kind, name)
    names.check_free()
    folder = folder or Path(names.distribution)
    with _all_or_nothing(folder):
        _render(names, folder)
    return names, folder


def _render(names: Names, folder: Path) -> None:
    try:
        from copier import run_copy
    except ImportError as error:
        raise missing_extra("copier", "neurai[template]", "Writing a new distribution") from error
    group = next(kind.group for kind in KINDS if kind.name == names.kind)
    core = ".".join(core_version().split(".")[:2])
    answers = {**names._asdict(), "noun": _NOUNS[names.kind], "group": group, "core": core}
    for files in ("common", names.kind):
        run_copy(str(_FILES / files), folder, data=answers, defaults=True, quiet=True)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """An empty folder to write to; whatever fails leaves everything as it was.

    Raises:
        OutputError: it is not empty, or cannot be written.
    """
    hint = "Give another folder, after the name."
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "The folder" if folder.is_dir() else "The file"
            raise OutputError(f"{what} {str(folder)!r} already exists, expected a new or empty folder.", hint)
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            for one in missing[-1:] or list(folder.iterdir()):
                shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink()
            raise
    except OSError as error:
        raise OutputError(f"The folder {str(folder)!r} cannot be written: {error.strerror or error}.", hint) from error

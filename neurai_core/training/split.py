"""Arrays that no process holds whole, in a folder: every process writes its own parts, and reads those it needs, by
orbax-checkpoint (the extra ``orbax``).

Orbax notices no flipped bit, so the one process that writes everything else keeps the SHA-256 of every file, and
arrays are read only after all files have been compared with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from neurai_core.errors import DataError, OutputError, missing_extra
from neurai_core.training.team import ALONE, Team

FOLDER = "split"  # of the arrays, inside that of a checkpoint


def is_split(leaf: Any) -> bool:
    """Whether an array is in parts that different processes hold.

    >>> is_split(jax.numpy.ones(3))
    False
    """
    return isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)


def installed() -> bool:
    """Whether orbax is there; otherwise arrays are gathered before one process writes them."""
    return find_spec("orbax") is not None and find_spec("orbax.checkpoint") is not None


class Parts:
    """Writes arrays of several processes, each its parts. All have to do the same in the same order."""

    def __init__(self) -> None:
        self._writer = _orbax().StandardCheckpointer()

    def begin(self, folder: Path, arrays: Mapping[str, jax.Array]) -> Callable[[], None]:
        """Copy arrays to the host, and begin to write them into a new folder.

        Returns:
            A function that waits until all processes have written, for any thread.
        """
        with _telling(folder):
            self._writer.save(folder.absolute(), _numbered(arrays))

        def wait() -> None:
            with _telling(folder):
                self._writer.wait_until_finished()

        return wait

    def close(self) -> None:
        """End the threads that write."""
        self._writer.close()


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder, by its place there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def check(folder: Path, expected: Mapping[str, str], team: Team = ALONE) -> None:
    """Check that files are what they were. Processes share the work, and all get the same answer.

    Raises:
        DataError: one has changed, or cannot be read.
    """
    names = sorted(expected)
    own = range(team.number, len(names), team.size)
    changed = next((place for place in own if _changed(folder / names[place], expected[names[place]])), -1)
    found = int(team.numbers(changed).max())
    if found >= 0:
        raise DataError(f"{folder / names[found]} is damaged: it does not have its SHA-256.", "Use another checkpoint.")


def read(folder: Path, like: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Arrays from the folder, each process those parts that it needs.

    Args:
        folder: the folder.
        like: all arrays that were written, with shapes and dtypes, and where each is wanted, on however many devices.
    """
    wanted = {name: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=one.sharding) for name, one in like.items()}
    reader = _orbax().StandardCheckpointer()
    found = reader.restore(folder.absolute(), _numbered(wanted))
    reader.close()
    return dict(zip(sorted(like), (found[number] for number in sorted(found)), strict=True))


def _orbax() -> Any:
    try:
        import orbax.checkpoint as found
    except ImportError as error:
        raise missing_extra("orbax", "neurai[orbax]", "A checkpoint in parts") from error
    return found


def _numbered(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by numbers, because the places of leaves are no names of files."""
    return {f"{number:06d}": arrays[name] for number, name in enumerate(sorted(arrays))}


def _changed(path: Path, expected: str) -> bool:
    try:
        return _sha256(path) != expected
    except OSError:
        return True


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Turn an error of writing into one that names the folder; that of the runtime tells of a process that is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OutputError(
            f"{folder} cannot be written: {reason}.", "Is the disk full, or the folder read-only?"
        ) from error

"""One process at a time trains in a folder: the operating system holds the lock, and drops it when the process dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurai_core.errors import OutputError

LOCK = ".lock"


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder inside the block. Where the system has no such locks, nothing is held.

    Args:
        folder: the folder.
        wait: whether to wait for another process that holds it.

    Raises:
        OutputError: another process holds it; names that process.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with held(folder):
    ...     (folder / LOCK).read_text() == str(os.getpid())
    True
    >>> list(folder.iterdir())
    []
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = _locked(folder / LOCK, fcntl.flock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)


def _locked(path: Path, lock: object, how: int) -> int:
    """An open file that is locked and still has its name: the holder before may have removed it just now."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"{path.parent} cannot be written: {error.strerror}.", "Check its permissions."
            ) from error
        try:
            lock(handle, how)  # type: ignore[operator]
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode(errors="replace") or "unknown"
            os.close(handle)
            raise OutputError(
                f"{path.parent} is in use: process {holder} trains in it.",
                "Wait for it or stop it; if it is gone, nothing holds the folder.",
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)

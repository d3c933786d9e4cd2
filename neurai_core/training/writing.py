"""What cannot be written, told as an error that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurai_core.errors import OutputError


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn an error of the system inside the block into one that names the file or folder.

    Raises:
        OutputError: the disk is full, or the path cannot be written.

    >>> from errno import ENOSPC
    >>> with writing_to(Path("runs/mine/metrics.jsonl")):
    ...     raise OSError(ENOSPC, "No space left on device")
    Traceback (most recent call last):
    neurai_core.errors.OutputError: runs/mine/metrics.jsonl cannot be written: No space left on device.
    Is the disk full, or the folder read-only?
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", "Is the disk full, or the folder read-only?"
        ) from error

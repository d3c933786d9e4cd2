"""Signs of life: files that a process of a job touches while it trains, and by which `neurai launch` watches it.

This module imports nothing heavy, because the process that watches is light.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from neurai_core.errors import OutputError

VARIABLE, WATCHER = "NEURAI_HEARTBEAT", "NEURAI_LAUNCHER"
_RUN = "run"


class Heart:
    """The signs of life of one process.

    Args:
        place: the folder of the files; None for a process that nobody watches.
        number: of the process.
        watcher: id of the process that watches; 0 for none.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> heart = Heart(place, 1)
    >>> heart.age is None, heart.beat(), heart.age < 60, heart.rest(), heart.age is None
    (True, None, True, None, True)
    """

    def __init__(self, place: Path | None = None, number: int = 0, watcher: int = 0) -> None:
        self._file = None if place is None else place / f"process-{number}"
        self._run = None if place is None else place / _RUN
        self._watcher = watcher
        self._seen = 0, 0.0  # the last beat that was looked at, and when by a clock that stands still during sleep

    def beat(self) -> None:
        """Show that the process goes on."""
        if self._file is not None:
            try:
                self._file.touch()
            except OSError as error:
                raise OutputError(
                    f"{self._file} cannot be written: {error.strerror}.", f"Unset {VARIABLE}, or make room."
                ) from error

    def rest(self) -> None:
        """Say that no further beat is to be expected soon."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()

    @property
    def age(self) -> float | None:
        """Seconds since a look first saw the last beat; None without one."""
        try:
            beaten = None if self._file is None else self._file.stat().st_mtime_ns
        except OSError:
            return None
        if beaten is None:
            return None
        if beaten != self._seen[0]:
            self._seen = beaten, time.monotonic()
        return time.monotonic() - self._seen[1]

    @property
    def orphaned(self) -> bool:
        """Whether the process that watches is gone."""
        return bool(self._watcher) and os.getppid() != self._watcher

    def tell_run(self, folder: Path) -> None:
        """Tell the folder of the run, from which it can be continued."""
        if self._run is not None:
            with suppress(OSError):
                self._run.write_text(str(folder.absolute()), encoding="utf-8")


def own_heart(number: int, environ: Mapping[str, str] = os.environ) -> Heart:
    """The heart of this process, as its environment says."""
    place = environ.get(VARIABLE)
    watcher = environ.get(WATCHER, "")
    return Heart(Path(place) if place else None, number, int(watcher) if watcher.isdecimal() else 0)


def run_told(place: Path) -> str:
    """The folder of the run that a process has told; empty if none has."""
    try:
        return (place / _RUN).read_text(encoding="utf-8")
    except OSError:
        return ""

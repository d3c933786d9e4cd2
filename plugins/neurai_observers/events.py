"""Metrics as events for TensorBoard, without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from neurai_core.errors import OutputError, SettingsError
from neurai_core.hookspecs import hookimpl
from neurai_observers import TensorBoardConfig


class TensorBoardEvents:
    """The observer: a scalar per metric and epoch, where TensorBoard's axis of steps counts epochs.

    A run that is resumed writes the epochs that count into a new file, at the times at which they ended, and removes
    the files that it wrote before: no epoch is missing or there twice, for any reader.

    Args:
        config: its settings.
        **context: not used.
    """

    def __init__(self, config: TensorBoardConfig, **context: Any) -> None:
        self.config = config
        self.writer: SummaryWriter | None = None

    @hookimpl
    def neurai_before_run(self, history: Sequence[Mapping[str, float]], folder: Path | None) -> None:
        """Write the epochs that were done before."""
        if folder is None and not self.config.dir:
            raise SettingsError("tensorboard has no folder for its events: this run has none.", "Give dir=FOLDER.")
        place = Path(self.config.dir) if self.config.dir else Path(folder or "", "tensorboard")
        suffix = _suffix(folder, own=not self.config.dir)
        before = [] if folder is None else sorted(place.glob(f"events.out.tfevents.*{suffix}"))
        times = {event.step: event.wall_time for path in before for event in read_events(path)}
        try:
            for path in before:
                path.unlink()
            self.writer = SummaryWriter(str(place), filename_suffix=suffix)
        except OSError as error:
            raise OutputError(f"tensorboard cannot write to {place}: {error.strerror}.", "Give another dir.") from error
        for epoch, metrics in enumerate(history, 1):
            self._write(epoch, metrics, times.get(epoch))
        self.writer.flush()

    @hookimpl
    def neurai_after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, to be seen at once."""
        self._write(epoch, metrics)
        assert self.writer is not None
        self.writer.flush()

    @hookimpl
    def neurai_after_run(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()

    def _write(self, epoch: int, metrics: Mapping[str, float], time: float | None = None) -> None:
        assert self.writer is not None
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, epoch, walltime=time)


def _suffix(folder: Path | None, *, own: bool) -> str:
    """How the names of a run's files end; in a folder that several runs may share, it names the run."""
    named = "" if own or folder is None else "-" + sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return f"{named}.neurai"


def read_events(path: Path) -> Iterator[Event]:
    """The events in a file, up to the first that is damaged: records of length, checksum, bytes, checksum."""
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        record = content[at + 12 : at + 12 + size]
        if len(record) < size:
            return
        try:
            yield Event.FromString(record)
        except DecodeError:
            return
        at += 16 + size

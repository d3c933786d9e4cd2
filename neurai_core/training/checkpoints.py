"""The checkpoints of one run: what they carry, when they are written, and whether the run may go on from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import SettingsError
from neurai_core.training import checkpoint
from neurai_core.training.deciding import differences
from neurai_core.training.folders import CHECKPOINTS
from neurai_core.training.record import CONFIG
from neurai_core.training.saving import Options, Timetable, Writer
from neurai_core.training.step import Progress, kept, restored, saved, whole
from neurai_core.training.team import ALONE, Team


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: the folder of the run.
        decides: everything that decides its bits, which every checkpoint carries.
        epoch_steps: steps of an epoch.
        options: how often one is written, how many are kept, and whether a changed run may go on.
        say: called with a sentence about what was passed over.
        written: called with steps and path after one was written, in the thread of the caller.
        team: the processes that train together, of which one writes.
    """

    def __init__(
        self,
        folder: Path,
        decides: Mapping[str, Any],
        epoch_steps: int,
        options: Options,
        say: Callable[[str], None],
        written: Callable[[int, Path], object],
        team: Team = ALONE,
    ) -> None:
        self.place, self._config = folder / CHECKPOINTS, folder / CONFIG
        self._decides, self._epoch_steps, self._options = decides, epoch_steps, options
        self._say, self._written, self._team = say, written, team
        self.times = Timetable(options.every)

    # -------------------------------------------------------------------- going on

    def newest(self, like: Progress) -> Progress | None:
        """The progress in the newest undamaged checkpoint; None if there is none at all.

        Raises:
            DataError: all are damaged.
            SettingsError: something that decides the bits of the run has changed.
        """
        if not checkpoint.any_in(self.place):
            return None
        self._check_unchanged(checkpoint.facts_of(self.place).get("decides"))
        # A rule may report more, or less, than when the run began; of what is new, this epoch has no mean.
        unknown = like._replace(totals={name: jnp.full_like(total, jnp.nan) for name, total in like.totals.items()})
        found, _, damaged = checkpoint.newest(self.place, whole(saved(unknown)), may_differ="totals")
        for error in damaged:
            self._say(f"{error.message} The checkpoint before it is used.")
        return restored(found)

    def _check_unchanged(self, before: Mapping[str, Any] | None) -> None:
        changed = [] if before is None else differences(before, self._decides)
        if changed and not self._options.force:
            raise SettingsError(
                f"The checkpoints in {self.place} were written with other settings: {'; '.join(changed)}.",
                "Set them back, or continue with --force (force=True): the result is then not that of one run.",
            )
        for one in changed:
            self._say(f"Going on although {one}.")

    # -------------------------------------------------------------------- writing

    @contextmanager
    def writing(self, done: int) -> Iterator[None]:
        """Write checkpoints beside training, which begins after ``done`` steps; all are written when the block ends."""
        self.times.saved(done)
        if not self._team.writes:
            yield
            return
        facts = {"decides": self._decides, "config": self._config.read_text(encoding="utf-8")}

        def write(item: tuple[int, PyTree]) -> tuple[int, Path]:
            step, tree = item
            facts_now = {"step": step, **facts}
            return step, checkpoint.save_step(self.place, step, tree, facts_now, keep=self._options.keep)

        self._writer = Writer(write, lambda where: self._written(*where))
        try:
            yield
        finally:
            try:
                self._writer.finish()
            finally:
                self._writer.close()

    def reached(self, done: int, progress: Progress) -> None:
        """Save within an epoch if it is time; the end of an epoch is saved together with its metrics."""
        if self._team.writes:
            self._writer.look()
        if done % self._epoch_steps and self._is_due(done, epoch_ends=False):
            self.save(progress)

    def after_epoch(self, done: int, progress: Progress) -> None:
        """Save at the end of an epoch, whose metrics are written, if it is time."""
        if self._is_due(done, epoch_ends=True):
            self.save(progress)

    def save_within_epoch(self, progress: Progress) -> None:
        """Save where training was interrupted, unless its metrics may be missing."""
        if int(progress.step) % self._epoch_steps:
            self.save(progress)

    def save_last(self, progress: Progress) -> None:
        """Save where training ended, unless that is saved."""
        if int(progress.step) != self.times.done:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Save this progress as soon as the checkpoint before is written."""
        step = int(progress.step)
        self.times.saved(step)
        copy = kept(progress)  # in all processes, each of which may hold a part
        if self._team.writes:
            self._writer.put((step, copy))

    def _is_due(self, done: int, *, epoch_ends: bool) -> bool:
        """Whether one is due by the clock of the process that writes."""
        return bool(self._team.numbers(self.times.is_due(done, epoch_ends=epoch_ends))[0, 0])

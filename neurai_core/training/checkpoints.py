"""The checkpoints of one run: what they carry, when they are written, and whether the run may go on from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import SettingsError
from neurai_core.training import checkpoint
from neurai_core.training.deciding import differences
from neurai_core.training.folders import CHECKPOINTS
from neurai_core.training.record import CONFIG
from neurai_core.training.saving import Options, Timetable, Writer
from neurai_core.training.split import Parts, installed, is_split
from neurai_core.training.step import Progress, kept, saved
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
        team: the processes that train together, of which one writes, and all the parts of arrays that are split over
            them.
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

    def newest(self, like: Progress) -> PyTree | None:
        """What the newest undamaged checkpoint holds; None if there is none at all.

        Raises:
            DataError: all are damaged.
            SettingsError: something that decides the bits of the run has changed.
        """
        if not checkpoint.any_in(self.place):
            return None
        self._check_unchanged(checkpoint.facts_of(self.place).get("decides"))
        # A rule may report more, or less, than when the run began; of what is new, this epoch has no mean.
        unknown = like._replace(totals={name: jnp.full_like(total, jnp.nan) for name, total in like.totals.items()})
        found, _, damaged = checkpoint.newest(self.place, saved(unknown), may_differ="totals", team=self._team)
        for error in damaged:
            self._say(f"{error.message} The checkpoint before it is used.")
        return found

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

    def in_parts(self, progress: Progress) -> bool:
        """Whether every process writes what it holds: there are arrays that none holds whole."""
        return _split(progress) and installed()

    @contextmanager
    def writing(self, progress: Progress) -> Iterator[None]:
        """Write checkpoints beside training, which begins with this progress; all are written when the block ends."""
        self.times.saved(int(progress.step))
        self._parts = Parts() if self.in_parts(progress) else None
        config = self._config.read_text(encoding="utf-8") if self._team.writes else ""
        self._facts = {"decides": self._decides, "config": config}
        self._writer = Writer(lambda write: write(), lambda where: self._written(*where))
        try:
            yield
        finally:
            try:
                self._writer.finish()
            finally:
                self._writer.close()
                if self._parts is not None:
                    self._parts.close()

    def reached(self, done: int, progress: Progress) -> None:
        """Save within an epoch if it is time; the end of an epoch is saved together with its metrics."""
        self._writer.look()
        if done % self._epoch_steps and self._is_due(done, epoch_ends=False):
            self.save(progress)

    def after_epoch(self, done: int, progress: Progress) -> None:
        """Save at the end of an epoch, whose metrics are written, if it is time."""
        if self._is_due(done, epoch_ends=True):
            self.save(progress)

    def save_within_epoch(self, progress: Progress) -> None:
        """Save where training was interrupted, unless its metrics may be missing, or all would have to take part."""
        if int(progress.step) % self._epoch_steps and not _split(progress):
            self.save(progress)

    def save_last(self, progress: Progress) -> None:
        """Save where training ended, unless that is saved."""
        if int(progress.step) != self.times.done:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Save this progress as soon as the checkpoint before is written."""
        step = int(progress.step)
        self.times.saved(step)
        facts = {"step": step, **self._facts}
        if self._parts is not None:
            self._writer.finish()  # none is passed over, so that all processes write the same ones
            finish = checkpoint.save_parts(
                self.place, step, saved(progress), facts, self._parts, keep=self._options.keep, team=self._team
            )
            self._writer.put(lambda: (step, finish()))
            return
        copy = kept(progress, writes=self._team.writes)  # in all processes, each of which may hold a part
        if self._team.writes:
            self._writer.put(
                lambda: (step, checkpoint.save_step(self.place, step, copy, facts, keep=self._options.keep))
            )

    def _is_due(self, done: int, *, epoch_ends: bool) -> bool:
        """Whether one is due by the clock of the process that writes."""
        return bool(self._team.numbers(self.times.is_due(done, epoch_ends=epoch_ends))[0, 0])


def _split(progress: Progress) -> bool:
    return any(map(is_split, jax.tree.leaves(saved(progress))))

"""The light cone: which activities can have moved, or feel a force, in the first sweeps of a relaxation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from neurai_core.changes.dependence import NONE, Names


class Stage(NamedTuple):
    """Sweeps in which the same activities take part.

    Attributes:
        names: the activities that move in them, in order of computation.
        resting: those that have not moved before, where that is known for the whole stage.
        sweeps: the number of sweeps.
    """

    names: tuple[str, ...]
    resting: tuple[str, ...]
    sweeps: int


def cone(predictions: Mapping[str, Sequence[Names]], outputs: Names, sweeps: int, visits: int) -> tuple[Stage, ...]:
    """The sweeps of a relaxation from the feed-forward point in stages, until every activity takes part.

    At the feed-forward point, only the outputs exert a force, and later predictions of a name, which may differ from
    its value. An activity moves once a force reaches it: from a prediction that it enters or that is its own, as soon
    as that prediction has changed.

    Args:
        predictions: for each name, the names on which each of its predictions depends directly.
        outputs: the names on which the outputs depend directly.
        sweeps: maximum number of sweeps to divide.
        visits: maximum number of visits to activities in all stages together, each of which is compiled; beyond it,
            stages take several sweeps and compute in each what their last one reaches.
    """
    reached = _spread(predictions, outputs, sweeps)
    order = list(predictions)
    length = max(1, -(-sum(map(len, reached)) // visits))  # sweeps per stage: one, if all visits are few enough
    stages = []
    before: Names = NONE
    for start in range(0, len(reached), length):
        part = reached[start : start + length]
        names = part[-1]
        resting = names - before if len(part) == 1 else NONE  # in several sweeps, they move from the second on
        stages.append(
            Stage(tuple(filter(names.__contains__, order)), tuple(filter(resting.__contains__, order)), len(part))
        )
        before = names
    return tuple(stages)


def _spread(predictions: Mapping[str, Sequence[Names]], outputs: Names, sweeps: int) -> list[Names]:
    """The activities that move in each sweep, as long as more of them do than before."""
    terms = [(name, count > 0, depends) for name, ones in predictions.items() for count, depends in enumerate(ones)]
    moved: Names = NONE
    reached: list[Names] = []
    while len(reached) < sweeps:  # one sweep: what feels a force in it has moved after it
        feel = moved | outputs
        for name, is_free, depends in terms:
            # The error of a first prediction is 0 until one side of it moves; that of a later one may never be 0.
            if is_free or name in moved or depends & moved:
                feel |= {name} | depends
        if feel == moved:
            break
        reached.append(feel)
        moved = feel
    return reached

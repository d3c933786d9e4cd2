"""The settings of a search: ranges, and how many configurations are drawn from them. No JAX is imported here."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurai_core.errors import SettingsError, UsageError
from neurai_core.naming import did_you_mean
from neurai_core.training.axes import MOST, Asked
from neurai_core.training.swept import Configurations, Given, plan, spanned

SAMPLERS = ("random", "tpe")
TRIALS, TOGETHER = 30, 8
JOURNAL = "journal:"  # begins a storage that is a file
_ENDS = 256  # combinations of ends that are checked before any work


@dataclass(frozen=True)
class Search:
    """What a search runs.

    Attributes:
        axes: the settings that are drawn.
        ends: the configurations at the ends of all axes, with their seeds.
        given: what is not drawn.
        sampler: how values are drawn.
        trials: number of configurations, those of all processes together.
        together: number of configurations that are drawn before their scores are known.
        study: name of the study; None for that of rule and data.
        storage: where the study is; None for a file in the folder.
    """

    axes: tuple[Asked, ...]
    ends: Configurations
    given: Given
    sampler: str
    trials: int = TRIALS
    together: int = TOGETHER
    study: str | None = None
    storage: str | None = None

    def drawn(self, texts: Iterable[Mapping[str, str]]) -> Configurations:
        """The plan of configurations that were drawn: values by name, as texts."""
        values = ([one[axis.name] for axis in self.axes] for one in texts)
        return spanned(self.given, self.axes, values, len(self.ends.seeds))

    def record(self) -> dict[str, Any]:
        """Everything that decides what a configuration gives, as JSON has it."""
        return {**self.ends.record(), "axes": {axis.name: str(axis) for axis in self.axes}}


def plan_search(
    rule: str,
    over: Sequence[str] | Mapping[str, str | Sequence[Any]],
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    *,
    sampler: str,
    trials: int | None = None,
    together: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    seeds: int = 1,
    set_surrogate: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Search:
    """Plan a search, and check what can be checked without computing.

    Args:
        rule: name of the rule.
        over: axes as of `neurai_core.training.swept.plan`, or ranges: ``KEY=log:FROM:TO``, ``KEY=FROM..TO``.
        flags: run settings by name; None for a flag that was not given.
        sets: strings ``key=value``, as of ``neurai train --set``.
        sampler: ``random`` or ``tpe``.
        trials: number of configurations; None for 30.
        together: number of configurations drawn at once; None for 8.
        study: name of the study.
        storage: ``journal:FILE``, or the URL of a database.
        seeds: number of seeds of every configuration, counted from the seed of the run.
        set_surrogate: strings ``key=value``: settings of the surrogate.
        environ: the environment.

    Raises:
        UsageError: there is no axis, one setting has two, or is set besides.
        UnknownName: no rule or data set has that name.
        SettingsError: an axis, or a setting of the search, is not possible.

    >>> made = plan_search("pc", ["eta=log:0.01:1", "n=5..20"], sampler="tpe", environ={})
    >>> [str(axis) for axis in made.axes], [tuple(point.values()) for point in made.ends.points]
    (['log:0.01:1.0', 'lin:5:20'], [(0.01, 5), (0.01, 20), (1.0, 5), (1.0, 20)])
    """
    if sampler not in SAMPLERS:
        near = did_you_mean(sampler, SAMPLERS)
        raise SettingsError(f"--search got {sampler!r}, expected {' or '.join(SAMPLERS)}.{near}")
    trials, together = TRIALS if trials is None else trials, TOGETHER if together is None else together
    for flag, number in (("--trials", trials), ("--together", together)):
        if not 1 <= number <= MOST:
            raise SettingsError(f"{flag} got {number}, expected a whole number from 1 to {MOST}.")
    _check_storage(study, storage)
    given = Given.of(rule, flags, sets, set_surrogate, environ)
    axes = given.axes(over, seeds)
    if (count := math.prod(axis.count for axis in axes)) <= trials:
        raise UsageError(
            f"The axes have only {count:.0f} configurations, which a search of {trials} trials would repeat.",
            "List the values and leave out --search: a grid tries each of them once.",
        )
    ends = itertools.islice(itertools.product(*(axis.texts for axis in axes)), _ENDS)
    return Search(axes, spanned(given, axes, ends, seeds), given, sampler, trials, together, study, storage)


def planned_sweep(
    rule: str, over: Any, flags: Mapping[str, Any], sets: Sequence[str], *, search: str | None, **more: Any
) -> Configurations | Search:
    """The plan of a grid, or with ``search`` that of a search; see `plan_search` for the arguments.

    Raises:
        UsageError: a setting of a search is given for a grid.
    """
    drawn = {name: more.pop(name) for name in ("trials", "together", "study", "storage")}
    if search is not None:
        return plan_search(rule, over, flags, sets, sampler=search, **drawn, **more)
    if given := next((name for name, value in drawn.items() if value is not None), None):
        raise UsageError(f"--{given} is only for searches.", "Add --search tpe, or leave it out.")
    return plan(rule, over, flags, sets, **more)


def _check_storage(study: str | None, storage: str | None) -> None:
    if study is not None and not study.strip():
        raise SettingsError("--study got an empty name.", "For example --study first.")
    if storage is None:
        return
    if not ("://" in storage or (storage.startswith(JOURNAL) and storage != JOURNAL)):
        raise SettingsError(
            f"--storage got {storage!r}, expected journal:FILE or the URL of a database.",
            "For example --storage journal:study.log or --storage sqlite:///study.db.",
        )

"""The settings of a sweep over a grid: the configurations that axes span. Neither JAX nor optax is imported here."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurai_core.errors import NeurAIError, SettingsError, UsageError
from neurai_core.explain import takes_float
from neurai_core.registry import REGISTRY
from neurai_core.training.axes import ELSEWHERE, EXAMPLES, MOST, Asked, all_asked
from neurai_core.training.setting_texts import data_reference, setting_name
from neurai_core.training.settings import Chosen, RunSettings, choose


@dataclass(frozen=True)
class Axis:
    """A setting with the values that it takes in turn.

    Attributes:
        name: full name, such as ``lr`` or ``rule.eta``.
        values: its values.
        is_number: whether it is a float, of which one compiled program serves many values.
        scale: ``log`` if its values are spaced evenly on a logarithmic scale, else ``lin``.
    """

    name: str
    values: tuple[Any, ...]
    is_number: bool
    scale: str = "lin"


@dataclass(frozen=True)
class Program:
    """Configurations that differ in numbers alone, so that one compiled program may serve all.

    Attributes:
        points: their places among those of the plan.
        numbers: names of the settings in which they differ.
    """

    points: tuple[int, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Configurations:
    """Configurations to train.

    Attributes:
        axes: the settings that are swept.
        points: values by name, for every configuration.
        chosen: the settings of every configuration, with the first seed.
        seeds: the seeds of every configuration.
    """

    axes: tuple[Axis, ...]
    points: tuple[dict[str, Any], ...]
    chosen: tuple[Chosen, ...]
    seeds: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """Everything that the plan decides, as JSON has it."""
        values = self.chosen[0].values()
        fixed = {name: value for name, value in values.items() if name not in self.points[0]}
        axes = {axis.name: list(axis.values) for axis in self.axes}
        return {"axes": axes, "seeds": list(self.seeds), "settings": fixed}

    def programs(self) -> list[Program]:
        """The programs that run all configurations, each with those that differ in numbers alone."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for at, point in enumerate(self.points):
            groups.setdefault(tuple(map(self._code, self.axes, point.values())), []).append(at)
        return [
            Program(tuple(places), tuple(axis.name for axis, own in zip(self.axes, key, strict=True) if own is None))
            for key, places in groups.items()
        ]

    def _code(self, axis: Axis, value: Any) -> str | None:
        """What a value means for the program; None if the program takes it as a number."""
        part, _, key = axis.name.partition(".")
        special = REGISTRY.spec("algorithm", self.chosen[0].settings.rule).config.compiled_for if part == "rule" else {}
        return None if axis.is_number and value not in special.get(key, ()) else repr(value)


@dataclass(frozen=True)
class Given:
    """What is not swept, as it was given.

    Attributes:
        flags: run settings by name; None for a flag that was not given.
        sets: strings ``key=value``, as of ``neurai train --set``.
        set_surrogate: strings ``key=value``: settings of the surrogate.
        environ: the environment.
    """

    flags: Mapping[str, Any]
    sets: tuple[str, ...] = ()
    set_surrogate: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def of(
        cls,
        rule: str,
        flags: Mapping[str, Any] | None,
        sets: Iterable[str],
        set_surrogate: Iterable[str],
        environ: Mapping[str, str],
    ) -> Given:
        """What is not swept, of a rule."""
        return cls({**(flags or {}), "rule": rule}, tuple(sets), tuple(set_surrogate), environ)

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return str(self.flags["rule"])

    @property
    def data(self) -> str:
        """The name of the data set."""
        return data_reference(str(self.flags.get("data") or RunSettings.model_fields["data"].default))[0]

    def axes(self, over: Sequence[str] | Mapping[str, str | Sequence[Any]], seeds: int) -> tuple[Asked, ...]:
        """The axes that are asked for; none of them is set besides."""
        if not over:
            raise UsageError("A sweep needs at least one setting to vary, got none.", EXAMPLES)
        if seeds < 1:
            raise SettingsError(f"--seeds got {seeds}, expected at least 1.", "Three or more show what is chance.")
        axes = all_asked(over, self.rule, self.data)
        self._refuse_twice([axis.name for axis in axes])
        return axes

    def _refuse_twice(self, names: list[str]) -> None:
        """Raise for a setting with two axes, or with an axis and a value."""
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{twice[0]} has two axes, expected one.", "List all of its values in one --over.")
        config = REGISTRY.spec("algorithm", self.rule).config
        said = {name: f"--{name.replace('_', '-')}" for name, value in self.flags.items() if value is not None}
        said |= {
            setting_name(key, config, self.rule, self.data): "--set"
            for text in (*self.sets, *(f"surrogate.{text}" for text in self.set_surrogate))
            if (key := text.partition("=")[0].strip().replace("-", "_"))
        }
        for name in ("stop_early", "align", "log", "devices", "shard"):
            if name in said:
                raise UsageError(f"{said[name]} got {name}, which a sweep does not use.", ELSEWHERE[name])
        for name in names:
            if name in said:
                raise UsageError(f"{name} is set by {said[name]} and swept by --over.", "Leave one of them out.")

    def with_values(self, point: Mapping[str, str]) -> Chosen:
        """The settings of one configuration; an error tells which, and names no option that was not given."""
        of_run = {name: value for name, value in point.items() if "." not in name}
        sets = [*self.sets, *(f"{name}={value}" for name, value in point.items() if "." in name)]
        try:
            chosen = choose({**self.flags, **of_run}, sets, environ=self.environ, set_surrogate=self.set_surrogate)
        except NeurAIError as error:
            for name in point:
                error.message = error.message.replace(f"--set got {name.rpartition('.')[2]},", f"--over got {name},")
            if not self.set_surrogate:
                error.message = error.message.replace("--set-surrogate is", "--over surrogate is")
            error.message = f"With {', '.join(f'{name}={value}' for name, value in point.items())}: {error.message}"
            raise
        return chosen.on_one_device(stop_early=None, align=False, log=())


def plan(
    rule: str,
    over: Sequence[str] | Mapping[str, str | Sequence[Any]],
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    *,
    seeds: int = 1,
    set_surrogate: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Configurations:
    """Plan a sweep over a grid, and check what can be checked without computing.

    Args:
        rule: name of the rule.
        over: axes: ``KEY=lin:FROM:TO:COUNT``, ``KEY=log:FROM:TO:COUNT``, or ``KEY=VALUE,VALUE,...``; or values by key.
        flags: run settings by name; None for a flag that was not given.
        sets: strings ``key=value``, as of ``neurai train --set``.
        seeds: number of seeds of every configuration, counted from the seed of the run.
        set_surrogate: strings ``key=value``: settings of the surrogate.
        environ: the environment.

    Raises:
        UsageError: there is no axis, one setting has two, or is set besides.
        UnknownName: no rule or data set has that name.
        SettingsError: an axis is empty, reversed or of an unknown setting, or a value is not possible.

    >>> made = plan("pc", ["eta=log:0.01:1:3", "n=5,10"], {"epochs": 2}, seeds=2, environ={})
    >>> [axis.values for axis in made.axes], made.seeds
    ([(0.01, 0.1, 1.0), (5, 10)], (0, 1))
    >>> [(program.points, program.numbers) for program in made.programs()]
    [((0, 2, 4), ('rule.eta',)), ((1, 3, 5), ('rule.eta',))]
    """
    given = Given.of(rule, flags, sets, set_surrogate, environ)
    axes = given.axes(over, seeds)
    for axis in axes:
        if axis.is_range:
            raise UsageError(
                f"--over {axis.name}={axis} is a range, from which a search draws, and a grid needs values.",
                "Add --search tpe, or the number of values: lin:FROM:TO:COUNT.",
            )
    if (count := math.prod(len(axis.texts) for axis in axes)) > MOST:
        raise UsageError(f"The axes span {count} configurations; at most {MOST} can be swept.", "Take fewer values.")
    return spanned(given, axes, itertools.product(*(axis.texts for axis in axes)), seeds)


def spanned(given: Given, asked: Sequence[Asked], texts: Iterable[Sequence[str]], seeds: int) -> Configurations:
    """The plan of configurations.

    Args:
        given: what is not swept.
        asked: the axes.
        texts: of every configuration, a value for every axis.
        seeds: number of seeds of every configuration, counted from the seed of the run.

    Raises:
        SettingsError: a value is not possible.
    """
    names = [axis.name for axis in asked]
    chosen = [given.with_values(dict(zip(names, values, strict=True))) for values in texts]
    points = [_values(names, one) for one in chosen]
    axes = tuple(
        Axis(
            axis.name,
            tuple(dict.fromkeys(point[axis.name] for point in points)),
            _is_number(axis.name, given.rule, points),
            axis.scale,
        )
        for axis in asked
    )
    first = chosen[0].settings.seed
    if first + seeds > 2**32:
        raise SettingsError(f"The seeds {first} to {first + seeds - 1} exceed the largest seed, {2**32 - 1}.")
    points = [_floats(point, axes) for point in points]
    return Configurations(axes, tuple(points), tuple(chosen), tuple(range(first, first + seeds)))


def _values(names: Iterable[str], chosen: Chosen) -> dict[str, Any]:
    values = chosen.values()
    return {name: values[name] for name in names}


def _is_number(name: str, rule: str, points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all values of a setting are floats, so that they need not choose code."""
    values = [point[name] for point in points]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    part, _, key = name.partition(".")
    if part == "rule":
        return takes_float(REGISTRY.spec("algorithm", rule).config, key)
    if part == "optimizer" and key:
        return any(isinstance(value, float) for value in values)
    return part == "surrogate" or name == "lr"


def _floats(point: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: float(point[axis.name]) if axis.is_number else point[axis.name] for axis in axes}

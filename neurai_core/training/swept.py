"""The settings of a sweep: axes, and the configurations that they span. Neither JAX nor optax is imported here."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any, cast, get_args

from neurai_core.errors import NeurAIError, SettingsError, UsageError
from neurai_core.explain import takes_float
from neurai_core.naming import did_you_mean
from neurai_core.registry import REGISTRY
from neurai_core.training.setting_texts import data_reference, setting_name
from neurai_core.training.settings import PARTS, Chosen, RunSettings, choose

MOST = 10_000  # configurations of a sweep
RUN = "run"  # begins the name of a setting of the run
SCALES = ("lin", "log")
_OVER = "For example --over eta=log:0.01:1:16, --over n=5,10,20 or --over lr=lin:0.001:0.01:4."
_ELSEWHERE = {
    "rule": "`neurai compare` compares rules.",
    "data": "A sweep stays on one data set.",
    "seed": "--seeds N trains every configuration with N seeds.",
    "stop_early": "All configurations take all steps.",
    "align": "Alignment is measured by `neurai train --align`.",
    "log": "A sweep writes results.json.",
    "devices": "A sweep trains on one device.",
    "shard": "A sweep trains on one device.",
}


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
class Plan:
    """What a sweep runs.

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


def plan(
    rule: str,
    over: Sequence[str],
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    *,
    seeds: int = 1,
    set_surrogate: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """Plan a sweep, and check what can be checked without computing.

    Args:
        rule: name of the rule.
        over: axes: ``KEY=lin:FROM:TO:COUNT``, ``KEY=log:FROM:TO:COUNT``, or ``KEY=VALUE,VALUE,...``.
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
    flags, sets, set_surrogate = dict(flags or {}) | {"rule": rule}, list(sets), list(set_surrogate)
    if not over:
        raise UsageError("A sweep needs at least one setting to vary, got none.", _OVER)
    if seeds < 1:
        raise SettingsError(f"--seeds got {seeds}, expected at least 1.", "Three or more show what is chance.")
    data = data_reference(str(flags.get("data") or RunSettings.model_fields["data"].default))[0]
    parsed = [_axis(text, rule, data) for text in over]
    names = [name for name, _, _ in parsed]
    _refuse_twice(names, flags, [*sets, *(f"surrogate.{text}" for text in set_surrogate)], rule, data)
    if (count := math.prod(len(values) for _, values, _ in parsed)) > MOST:
        raise UsageError(f"The axes span {count} configurations; at most {MOST} can be swept.", "Take fewer values.")
    points, chosen = [], []
    for values in itertools.product(*(values for _, values, _ in parsed)):
        chosen.append(_chosen(flags, sets, dict(zip(names, values, strict=True)), set_surrogate, environ))
        points.append(_values(names, chosen[-1]))
    axes = [
        Axis(name, tuple(dict.fromkeys(point[name] for point in points)), _is_number(name, rule, points), scale)
        for name, _, scale in parsed
    ]
    points = [_floats(point, axes) for point in points]
    first = chosen[0].settings.seed
    if first + seeds > 2**32:
        raise SettingsError(f"The seeds {first} to {first + seeds - 1} exceed the largest seed, {2**32 - 1}.")
    return Plan(tuple(axes), tuple(points), tuple(chosen), tuple(range(first, first + seeds)))


# ---------------------------------------------------------------------------- axes


def _axis(text: str, rule: str, data: str) -> tuple[str, list[str], str]:
    """The full name of a setting, the texts of its values, and their scale."""
    key, equals, rest = (part.strip() for part in text.partition("="))
    if not (equals and key):
        raise SettingsError(f"--over got {text!r}, expected KEY=VALUES.", _OVER)
    name = _full_name(key, rule, data)
    found = re.fullmatch(r"(\w+):([^:,;]+):([^:,;]+):([^:,;]+)", rest)
    if found and (found[1] in SCALES or all(map(_is_float, found.groups()[1:]))):
        values, scale = _spaced(key, *found.groups(), whole=_is_whole(name, rule)), found[1]
    else:
        values, scale = _listed(rest), "lin"
    if not all(values) or not values:
        what = "an empty value" if values else "no values"
        raise SettingsError(f"--over {text!r} has {what}, expected one or more.", _OVER)
    if twice := [value for value in values if values.count(value) > 1]:
        raise SettingsError(f"--over {key} has the value {twice[0]} twice.", "Give every value once.")
    return name, values, scale


def _full_name(key: str, rule: str, data: str) -> str:
    """The name of a swept setting: ``rule.eta``, or unchanged for one of the run or of another part."""
    config = REGISTRY.spec("algorithm", rule).config
    owner, dot, _ = key.partition(".")
    if dot and owner not in (*PARTS, RUN):
        raise SettingsError(
            f"--over got {key!r}, and a run has no part {owner!r}.{did_you_mean(owner, PARTS)}",
            f"Parts: {', '.join(PARTS)}. Settings of the run itself: {RUN}.",
        )
    name = _of_run(key) if owner == RUN else setting_name(key.replace("-", "_"), config, rule, data, flag="--over")
    part, _, setting = name.partition(".")
    if part in _ELSEWHERE and (part != "rule" or not setting):
        raise SettingsError(f"--over cannot vary {name}.", _ELSEWHERE[part])
    known = config.model_fields
    if part == "rule" and setting not in known:
        raise SettingsError(
            f"--over got {key!r}, and the rule {rule!r} has no such setting.{did_you_mean(setting, known)}",
            f"It has: {', '.join(known) or 'no settings'}.",
        )
    return name


def _of_run(key: str) -> str:
    """The setting of the run in a name such as ``run.optimizer``, which tells it from one of the rule."""
    name = RunSettings.setting_named(key.removeprefix(f"{RUN}."))
    if not name:
        near = did_you_mean(key.removeprefix(f"{RUN}."), RunSettings.model_fields)
        raise SettingsError(
            f"--over got {key!r}, and a run has no such setting.{near}",
            f"It has: {', '.join(RunSettings.model_fields)}.",
        )
    return name


def _spaced(key: str, scale: str, start: str, stop: str, count: str, *, whole: bool) -> list[str]:
    """The texts of evenly spaced values."""
    said = f"--over {key}={scale}:{start}:{stop}:{count}"
    if scale not in SCALES:
        raise SettingsError(f"{said} has the scale {scale!r}, expected lin or log.{did_you_mean(scale, SCALES)}", _OVER)
    if not (_is_float(start) and _is_float(stop)):
        raise SettingsError(f"{said} does not go from a finite number to another.", _OVER)
    if not (count.isascii() and count.isdigit() and 2 <= int(count) <= MOST):
        raise SettingsError(f"{said} asks for {count} values, expected a whole number from 2 to {MOST}.", _OVER)
    low, high, n = float(start), float(stop), int(count)
    if low >= high:
        what = "is reversed: it goes down" if low > high else "is empty: it goes"
        raise SettingsError(f"{said} {what} from {start} to {stop}.", "Give the smaller end first.")
    if scale == "log" and low <= 0:
        raise SettingsError(f"{said} begins at {start}; a logarithmic axis needs numbers above 0.", "Use lin.")
    shares = [at / (n - 1) for at in range(n)]
    inside = [low + share * (high - low) if scale == "lin" else low * (high / low) ** share for share in shares]
    values = [low, *(float(f"{value:.12g}") for value in inside[1:-1]), high]
    if not whole:
        return list(map(repr, values))
    if broken := [value for value in values if not value.is_integer()]:
        raise SettingsError(f"{said} gives {broken[0]:g}, and {key} is a whole number.", f"List them: {key}=5,10,20.")
    return [str(int(value)) for value in values]


def _listed(text: str) -> list[str]:
    """The values of a list: separated by semicolons if there are any, else by commas outside brackets and quotes.

    >>> _listed("mlp:64,32; mlp:16"), _listed("'sgd(0.1, momentum=0.5)', none")
    (['mlp:64,32', 'mlp:16'], ["'sgd(0.1, momentum=0.5)'", 'none'])
    """
    if ";" in text:
        return [part.strip() for part in text.split(";")]
    parts, depth, quote = [""], 0, ""
    for letter in text:
        quote = ("" if letter == quote else quote) if quote else (letter if letter in "'\"" else "")
        depth += 0 if quote else (letter in "([") - (letter in ")]")
        if letter == "," and not (quote or depth):
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts] if text else []


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# ---------------------------------------------------------------------------- configurations


def _refuse_twice(names: list[str], flags: Mapping[str, Any], sets: list[str], rule: str, data: str) -> None:
    """Raise for a setting with two axes, or with an axis and a value."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} has two axes, expected one.", "List all of its values in one --over.")
    config = REGISTRY.spec("algorithm", rule).config
    given = {name: f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None}
    given |= {
        setting_name(key, config, rule, data): "--set"
        for text in sets
        if (key := text.partition("=")[0].strip().replace("-", "_"))
    }
    for name in ("stop_early", "align", "log", "devices", "shard"):
        if name in given:
            raise UsageError(f"{given[name]} got {name}, which a sweep does not use.", _ELSEWHERE[name])
    for name in names:
        if name in given:
            raise UsageError(f"{name} is set by {given[name]} and swept by --over.", "Leave one of them out.")


def _chosen(
    flags: Mapping[str, Any],
    sets: list[str],
    point: Mapping[str, str],
    set_surrogate: list[str],
    environ: Mapping[str, str],
) -> Chosen:
    """The settings of one configuration; an error tells which, and does not speak of options that were not given."""
    of_run = {name: value for name, value in point.items() if "." not in name}
    of_parts = [f"{name}={value}" for name, value in point.items() if "." in name]
    try:
        chosen = choose({**flags, **of_run}, [*sets, *of_parts], environ=environ, set_surrogate=set_surrogate)
    except NeurAIError as error:
        for name in point:
            error.message = error.message.replace(f"--set got {name.rpartition('.')[2]},", f"--over got {name},")
        if not set_surrogate:
            error.message = error.message.replace("--set-surrogate is", "--over surrogate is")
        error.message = f"With {', '.join(f'{name}={value}' for name, value in point.items())}: {error.message}"
        raise
    alone = chosen.on_one_device()
    return replace(alone, settings=alone.settings.model_copy(update={"stop_early": None, "align": False, "log": ()}))


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


def _is_whole(name: str, rule: str) -> bool:
    """Whether a setting is a whole number."""
    config = REGISTRY.spec("algorithm", rule).config if name.startswith("rule.") else RunSettings
    field = config.model_fields.get(name.removeprefix("rule."))
    annotation = cast(Any, field.annotation) if field else None
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return int in kinds and float not in kinds


def _floats(point: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: float(point[axis.name]) if axis.is_number else point[axis.name] for axis in axes}

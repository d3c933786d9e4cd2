"""Axes of a sweep, from their texts: a setting, and its values or the range that a search draws from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, cast, get_args

from neurai_core.errors import SettingsError
from neurai_core.naming import did_you_mean
from neurai_core.registry import REGISTRY
from neurai_core.run_settings import PARTS, RunSettings
from neurai_core.training.setting_texts import setting_name, text_of

MOST = 10_000  # configurations of a sweep
RUN = "run"  # begins the name of a setting of the run
SCALES = ("lin", "log")
EXAMPLES = "For example --over eta=log:0.01:1:16, --over n=5,10,20 or --over lr=lin:0.001:0.01:4."
RANGES = "For example --over eta=log:0.01:1, --over n=5..20 or --over mode=strict,error."
ELSEWHERE = {
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
class Asked:
    """A setting to vary, as it was asked for.

    Attributes:
        name: full name, such as ``lr`` or ``rule.eta``.
        texts: its values, as ``--set`` reads them; for a range, its two ends.
        scale: ``log`` if values are spaced or drawn evenly on a logarithmic scale, else ``lin``.
        is_range: whether a search draws numbers between the ends.
        is_whole: whether these numbers are whole.
    """

    name: str
    texts: tuple[str, ...]
    scale: str = "lin"
    is_range: bool = False
    is_whole: bool = False

    @property
    def count(self) -> float:
        """The number of values that it can take."""
        if not self.is_range:
            return len(self.texts)
        low, high = map(float, self.texts)
        return high - low + 1 if self.is_whole else math.inf

    def __str__(self) -> str:
        return f"{self.scale}:{':'.join(self.texts)}" if self.is_range else ", ".join(self.texts)


def asked(text: str, rule: str, data: str) -> Asked:
    """The axis in a text of ``--over``.

    Args:
        text: ``KEY=VALUE,VALUE``, ``KEY=SCALE:FROM:TO:COUNT``, or a range: ``KEY=SCALE:FROM:TO`` or ``KEY=FROM..TO``.
        rule: name of the rule.
        data: name of the data set.

    Raises:
        SettingsError: it is empty, reversed, or of an unknown setting.

    >>> asked("eta=log:0.01:1:3", "pc", "digits").texts, asked("n=5..20", "pc", "digits").is_range
    (('0.01', '0.1', '1.0'), True)
    """
    key, equals, rest = (part.strip() for part in text.partition("="))
    if not (equals and key):
        raise SettingsError(f"--over got {text!r}, expected KEY=VALUES.", EXAMPLES)
    name = _full_name(key, rule, data)
    spaced = re.fullmatch(r"(\w+):([^:,;]+):([^:,;]+)(?::([^:,;]+))?", rest)
    between = re.fullmatch(r"([^:,;]+?)\.\.([^:,;]+)", rest)
    whole = _is_whole(name, rule, data)
    if spaced and (spaced[1] in SCALES or all(map(_is_float, filter(None, spaced.groups()[1:])))):
        scale, start, stop, count = spaced.groups()
        return _numbers(f"--over {text}", name, scale, start, stop, count, whole=whole)
    if between and all(map(_is_float, between.groups())):
        return _numbers(f"--over {text}", name, "lin", between[1], between[2], None, whole=whole)
    return _checked(f"--over {text!r}", Asked(name, tuple(_listed(rest))))


def asked_values(key: str, values: Sequence[Any], rule: str, data: str) -> Asked:
    """The axis of a setting with values of Python.

    >>> asked_values("mode", ["strict", "error"], "pc", "digits")
    Asked(name='rule.mode', texts=('strict', 'error'), scale='lin', is_range=False, is_whole=False)
    """
    return _checked(f"over {key}", Asked(_full_name(key, rule, data), tuple(map(text_of, values))))


def all_asked(over: Sequence[str] | Mapping[str, str | Sequence[Any]], rule: str, data: str) -> tuple[Asked, ...]:
    """The axes of texts, or of values by setting."""
    if not isinstance(over, Mapping):
        return tuple(asked(text, rule, data) for text in over)
    single = {key: (values,) for key, values in over.items() if not isinstance(values, str | Iterable)}
    return tuple(
        asked(f"{key}={values}", rule, data) if isinstance(values, str) else asked_values(key, values, rule, data)
        for key, values in {**over, **single}.items()
    )


def _checked(said: str, axis: Asked) -> Asked:
    """The axis, whose values are there, and there once."""
    if not all(axis.texts) or not axis.texts:
        what = "an empty value" if axis.texts else "no values"
        raise SettingsError(f"{said} has {what}, expected one or more.", EXAMPLES)
    if twice := [value for value in axis.texts if axis.texts.count(value) > 1]:
        raise SettingsError(f"{said} has the value {twice[0]} twice.", "Give every value once.")
    return axis


# ---------------------------------------------------------------------------- settings


def _full_name(key: str, rule: str, data: str) -> str:
    """The name of a swept setting: ``rule.eta``, or unchanged for one of the run or of another part."""
    config = REGISTRY.spec("algorithm", rule).config
    owner, dot, _ = key.partition(".")
    if dot and owner not in (*PARTS, RUN):
        raise SettingsError(
            f"--over got {key!r}, and a run has no part {owner!r}.{did_you_mean(owner, PARTS)}",
            f"Parts: {', '.join(PARTS)}. Settings of the run itself: {RUN}.",
        )
    name = (
        _of_run(key)
        if owner == RUN
        else setting_name(key.replace("-", "_"), config, rule, data, flag="--over", without=ELSEWHERE)
    )
    part, _, setting = name.partition(".")
    if part in ELSEWHERE and (part != "rule" or not setting):
        raise SettingsError(f"--over cannot vary {name}.", ELSEWHERE[part])
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
        known = [one for one in RunSettings.model_fields if one not in ELSEWHERE]
        near = did_you_mean(key.removeprefix(f"{RUN}."), known)
        raise SettingsError(f"--over got {key!r}, and a run has no such setting.{near}", f"It has: {', '.join(known)}.")
    return name


def _is_whole(name: str, rule: str, data: str) -> bool:
    """Whether a setting is a whole number."""
    part, dot, key = name.rpartition(".")
    owners = {"rule": ("algorithm", rule), "data": ("dataset", data)}
    config = REGISTRY.spec(*owners[part]).config if part in owners else RunSettings
    field = config.model_fields.get(key) if part in owners or not dot else None
    annotation = cast(Any, field.annotation) if field else None
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return int in kinds and float not in kinds


# ---------------------------------------------------------------------------- values


def _numbers(said: str, name: str, scale: str, start: str, stop: str, count: str | None, *, whole: bool) -> Asked:
    """Evenly spaced values, or without their number a range."""
    if scale not in SCALES:
        near = did_you_mean(scale, SCALES)
        raise SettingsError(f"{said} has the scale {scale!r}, expected lin or log.{near}", EXAMPLES)
    if not (_is_float(start) and _is_float(stop)):
        raise SettingsError(f"{said} does not go from a finite number to another.", EXAMPLES)
    if count is not None and not (count.isascii() and count.isdigit() and 2 <= int(count) <= MOST):
        raise SettingsError(f"{said} asks for {count} values, expected a whole number from 2 to {MOST}.", EXAMPLES)
    low, high = float(start), float(stop)
    if low >= high:
        what = "is reversed: it goes down" if low > high else "is empty: it goes"
        raise SettingsError(f"{said} {what} from {start} to {stop}.", "Give the smaller end first.")
    if scale == "log" and low <= 0:
        raise SettingsError(f"{said} begins at {start}; a logarithmic axis needs numbers above 0.", "Use lin.")
    values = [low, high] if count is None else _spaced(scale, low, high, int(count))
    if whole and (broken := [value for value in values if not value.is_integer()]):
        key = name.removeprefix("rule.")
        raise SettingsError(f"{said} gives {broken[0]:g}, and {key} is a whole number.", f"List them: {key}=5,10,20.")
    texts = tuple(str(int(value)) if whole else repr(value) for value in values)
    return Asked(name, texts, scale, is_range=count is None, is_whole=whole)


def _spaced(scale: str, low: float, high: float, n: int) -> list[float]:
    shares = [at / (n - 1) for at in range(n)]
    inside = [low + share * (high - low) if scale == "lin" else low * (high / low) ** share for share in shares]
    return [low, *(float(f"{value:.12g}") for value in inside[1:-1]), high]


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

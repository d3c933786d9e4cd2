"""The sources of a run's settings, each as one layer: environment, file, flags, ``--set``, defaults of the rule.

Neither JAX nor optax is imported here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from neurai_core.errors import PluginError, SettingsError, UnknownName, UsageError
from neurai_core.explain import validate_settings
from neurai_core.naming import did_you_mean
from neurai_core.registry import REGISTRY
from neurai_core.run_settings import PARTS, RunSettings
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.chosen import PYTHON
from neurai_core.training.setting_texts import setting_name, value_of

ENVIRONMENT = {"data": "NEURAI_DATASET"}  # NEURAI_DATA is the folder where data sets are looked for


@dataclass
class Layer:
    """Settings from one source."""

    values: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, value: Any, source: str) -> None:
        """Keep a value; ``rule.eta`` goes to the settings of the rule."""
        part, dot, key = name.partition(".")
        if dot:
            self.parts.setdefault(part, {})[key] = value
        else:
            self.values[name] = value
        self.sources[name] = source

    def rename_rule_settings(self, formerly: Mapping[str, str]) -> None:
        """Give settings of the rule their current names, so that a source above overrides them."""
        given = self.parts.get("rule", {})
        for former, name in formerly.items():
            if former in given and name not in given:  # both in one source are an error, see `Config`
                given[name] = given.pop(former)
                self.sources[f"rule.{name}"] = self.sources.pop(f"rule.{former}")

    def said(self) -> Layer:
        """This layer without the defaults that it started from."""
        return replace(self, values={name: value for name, value in self.values.items() if name in self.sources})

    def over(self, below: Layer) -> Layer:
        """Merge this layer over another; settings below that belong to a different rule are dropped."""
        changed = [part for part in PARTS if self.values.get(part, below.values.get(part)) != below.values.get(part)]
        kept = {part: given for part, given in below.parts.items() if part not in changed}
        parts = {part: kept.get(part, {}) | self.parts.get(part, {}) for part in {*kept, *self.parts}}
        sources = {
            name: at for name, at in below.sources.items() if name.partition(".")[0] not in changed or name in PARTS
        }
        said = {*self.values, *self.parts}
        record = {key: value for key, value in below.record.items() if key.removesuffix("_sha256") not in said}
        return Layer(below.values | self.values, parts, sources | self.sources, record | self.record)


def variable(name: str) -> str:
    """The environment variable of a run setting.

    >>> variable("batch_size"), variable("data")
    ('NEURAI_BATCH_SIZE', 'NEURAI_DATASET')
    """
    return ENVIRONMENT.get(name, f"NEURAI_{name.upper()}")


def default(name: str) -> Any:
    """The default of a setting of a run.

    >>> default("batch_size")
    64
    """
    return RunSettings.model_fields[name].default


def from_environment(environ: Mapping[str, str]) -> Layer:
    """The defaults of all parts, under what the environment sets."""
    layer = Layer({name: default(name) for name in PARTS})
    for name in RunSettings.model_fields:
        if environ.get(variable(name)):
            layer.put(name, environ[variable(name)], variable(name))
    return layer


def from_flags(flags: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Layer:
    """The flags that were given, and settings of parts as values."""
    layer = Layer()
    for part, given in parts.items():
        for key, value in given.items():
            layer.put(f"{part}.{key}", value, "--set")
    for name, value in flags.items():
        if value is not None:
            layer.put(name, value, f"--{name.replace('_', '-')}")
    return layer


def from_sets(pairs: list[tuple[str, str]], rule: str, data: str) -> tuple[Layer, Layer]:
    """Settings of the run and of its parts, where flags choose the parts."""
    config = REGISTRY.spec("algorithm", rule).config
    fields = config.model_fields
    values, inner = Layer(), Layer()
    for key, text in pairs:
        name = setting_name(key, config, rule, data)
        owner, _, setting = name.rpartition(".")
        annotation = fields[setting].annotation if owner == "rule" and setting in fields else None
        source = "--set-surrogate" if owner == "surrogate" else "--set"
        (inner if owner else values).put(name, value_of(text, annotation) if owner else text, source)
    return values, inner


def from_file(path: Path, objects: Iterable[str]) -> Layer:
    """What a ``config.toml`` sets, and its record.

    Args:
        path: the file.
        objects: names of settings that it may describe as objects of Python, which are left out.

    Raises:
        SettingsError: it sets what is not a setting of a run.
        UsageError: it cannot be read, or describes an object that is not among ``objects``.
    """
    content = _read(path)
    layer = Layer(record=_table(content.pop("record", {}), f"[record] of {path}"))
    parts = _table(content.pop("settings", {}), f"[settings] of {path}")
    _refuse_unknown(content, [*RunSettings.model_fields, "settings", "record"], path, "")
    _refuse_unknown(parts, PARTS, path, "settings.")
    for name, value in content.items():
        if not str(value).startswith(PYTHON):
            layer.put(name, value, str(path))
        elif name not in objects:
            _refuse_object(name, value, path)
    for part, given in parts.items():
        for key, value in _table(given, f"[settings.{part}] of {path}").items():
            layer.put(f"{part}.{key}", value, str(path))
    return layer


def _refuse_object(name: str, value: str, path: Path) -> NoReturn:
    raise UsageError(
        f"{path} is of a run whose {name} was an object of Python, {value.removeprefix(PYTHON)}, which a file cannot "
        "hold.",
        f"Continue with neurai.fit(..., out={str(path.parent)!r}, resume=True); neurai.load_run takes the {name} too.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"The configuration {path} cannot be read: {error.strerror or error}.",
            "Give the config.toml of a run, such as runs/<name>/config.toml.",
        ) from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number or nesting that is too large
        raise UsageError(f"The configuration {path} is not TOML: {error}.", "Correct that line.") from error


def _table(given: Any, what: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise SettingsError(f"{what} is {given!r}, expected a table.", "Write it as a TOML table.")
    return given


def _refuse_unknown(given: Iterable[str], known: Iterable[str], path: Path, prefix: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise SettingsError(
                f"{path} has {prefix}{name}, which is not a setting of a run.{did_you_mean(name, names)}",
                f"Known: {', '.join(names)}. Settings of the rule go into [settings.rule].",
            )


def from_rule(rule: str) -> Layer:
    """Defaults that suit a rule, over the defaults of all parts."""
    layer = Layer({name: default(name) for name in PARTS} | {"rule": rule})
    for name, value in cast(AlgorithmSpec, REGISTRY.spec("algorithm", rule)).defaults.items():
        layer.put(name, value, f"rule {rule}")
    with blaming_spec(rule, f"rule {rule}"):
        validate_settings(RunSettings, layer.values, name="a run")
        if own := layer.parts.get("rule"):
            REGISTRY.settings("algorithm", rule, own)
    return layer


@contextmanager
def blaming_spec(rule: str, source: str) -> Iterator[None]:
    """Turn the refusal of a value into an error of the rule's spec, if the value comes from there.

    Args:
        rule: name of the rule.
        source: where the value comes from, as in `Chosen.sources`.

    Raises:
        PluginError: the value comes from the spec, and is refused.
    """
    try:
        yield
    except (SettingsError, UnknownName) as error:
        if not source.startswith("rule "):
            raise
        entry = REGISTRY.find("algorithm", rule)
        raise PluginError(
            f"The spec of {entry} has defaults that a run refuses: {error.message}",
            f"{error.hint} Correct defaults= in the spec, or report it to the authors of {entry.distribution}.".strip(),
            distribution=entry.distribution,
            step="spec",
        ) from error

"""Settings in the texts of flags: ``key=value``, data sets with a path, observers, optimizers of parts.

Neither JAX nor optax is imported here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from neurai_core.errors import BlockedName, DataError, NeurAIError, SettingsError, UnknownName
from neurai_core.naming import suggest
from neurai_core.optax_texts import parse
from neurai_core.registry import REGISTRY
from neurai_core.run_defaults import STOPPER
from neurai_core.run_settings import PARTS, RunSettings
from neurai_core.specs import Config, PluginSpec


def pair(text: str, flag: str = "--set", example: str = "eta=0.1") -> tuple[str, str]:
    """The key and the value in a text ``key=value``.

    Args:
        text: the text.
        flag: the option that has it, for the error.
        example: a text that would do, for the error.

    Raises:
        SettingsError: it is not a pair.

    >>> pair("batch-size = 8")
    ('batch_size', '8')
    """
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise SettingsError(f"{flag} got {text!r}, expected key=value.", f"For example {flag} {example}.")
    return key.strip().replace("-", "_"), value.strip()


def value_of(text: str, annotation: Any) -> Any:
    """The value of a command-line string: parsed as TOML if possible, else the string itself."""
    if annotation is str:
        return text
    if text.lower() == "none" and NoneType in get_args(annotation):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # not TOML, or a number or nesting that is too large
        return text


def settings_of_texts(texts: Iterable[str], config: type[Config]) -> dict[str, Any]:
    """Parse ``key=value`` strings into settings, without checking values.

    Raises:
        SettingsError: a string is not a pair.

    >>> settings_of_texts(["batch-size=8", "data=digits"], RunSettings)
    {'batch_size': 8, 'data': 'digits'}
    """
    annotations = {name: field.annotation for name, field in config.model_fields.items()}
    pairs = ((config.setting_named(key) or key, value) for key, value in map(pair, texts))
    return {key: value_of(value, annotations.get(key)) for key, value in pairs}


def setting_name(
    key: str, config: type[Config], rule: str, data: str, *, flag: str = "--set", without: Container[str] = ()
) -> str:
    """The full name of a key of ``--set``: ``rule.eta`` for a setting of the rule, unchanged for one of the run.

    Args:
        key: the key.
        config: settings class of the rule.
        rule: the rule.
        data: the data set.
        flag: the option that has the key, for errors.
        without: settings of a run, and parts of it, that this option does not take, for errors.

    Raises:
        SettingsError: neither has such a setting, or both.

    >>> setting_name("eta", REGISTRY.spec("algorithm", "pc").config, "pc", "digits")
    'rule.eta'
    """
    part, dot, setting = key.partition(".")
    if dot and part in PARTS:
        return f"rule.{config.setting_named(setting) or setting}" if part == "rule" else key
    own, of_run = config.setting_named(key), RunSettings.setting_named(key)
    if own and of_run:
        of_the_run = f"--{of_run.replace('_', '-')} ..." if flag == "--set" else f"{flag} run.{of_run}=..."
        raise SettingsError(
            f"{flag} {key} could be the setting of the rule {rule!r} or that of the run.",
            f"Write {flag} rule.{own}=... for the rule's, {of_the_run} for the run's.",
        )
    if own or of_run:
        return f"rule.{own}" if own else of_run
    data_name = data.partition(":")[0]
    fields = {} if "data" in without else REGISTRY.spec("dataset", data_name).config.model_fields
    of_data = {name: f"data.{name}" for name in fields}
    run = [name for name in RunSettings.model_fields if name not in without]
    known = of_data | {name: name for name in (*config.model_fields, *run)}
    near, has = suggest(key, known), ", ".join(sorted(config.model_fields)) or "no settings"
    nearest = f" Did you mean {known[near]!r}?" if near else ""
    raise SettingsError(
        f"{flag} got {key!r}, which is neither a setting of the rule {rule!r} nor of a run.{nearest}",
        f"The rule has: {has}. A run has: {', '.join(run)}."
        + (
            ""
            if "data" in without
            else f" The data set {data_name!r} has: {', '.join(of_data.values()) or 'no settings'}."
        ),
    )


def data_reference(text: str) -> tuple[str, dict[str, str]]:
    """The name of a data set and the settings given with it.

    >>> data_reference("digits")
    ('digits', {})
    >>> data_reference("npz:/data/mine.npz")
    ('npz', {'path': '/data/mine.npz'})
    """
    name, colon, path = text.partition(":")
    fields = _dataset_spec(name).config.model_fields
    if not colon:
        return name, {}
    if "path" not in fields and "which" in fields:  # one of several data sets
        return name, {"which": path} if path else {}
    if "path" not in fields:
        raise DataError(f"The data set {name!r} takes no path, got {text!r}.", f"Write --data {name}.")
    return name, {"path": os.path.abspath(Path(path).expanduser())} if path else {}


def _dataset_spec(name: str) -> PluginSpec:
    """The spec of a data set; for an unknown name, the hint says how to use your own data."""
    try:
        return REGISTRY.spec("dataset", name)
    except BlockedName:
        raise
    except UnknownName as error:
        readers = ", ".join(f"--data {form} ({summary})" for form, summary in _readers())
        raise UnknownName(error.message, f"{error.hint} Files of your own: {readers}.".strip()) from error


def _readers() -> Iterator[tuple[str, str]]:
    """The data sets that read a path, such as ``idx:FOLDER``, with their summaries."""
    for name in REGISTRY.names("dataset"):
        with suppress(NeurAIError):  # a broken plugin does not help here
            spec = REGISTRY.spec("dataset", name)
            path = spec.config.model_fields.get("path")
            if path is not None:
                kind = "FOLDER" if (path.description or "").startswith("folder") else "FILE"
                yield f"{name}:{kind}", spec.summary


def stopping_of(text: str) -> dict[str, Any]:
    """The settings in the text of ``--stop-early``.

    Raises:
        SettingsError: one is unknown, out of range or of the wrong type, or not a pair.

    >>> stopping_of("patience=5,metric=test_accuracy")
    {'patience': 5, 'metric': 'test_accuracy'}
    """
    return _observer_settings(STOPPER, text.split(","), "--stop-early", "patience=5")


def log_of(text: str) -> tuple[str, dict[str, Any]]:
    """The observer in a text of ``--log``, and its settings.

    Raises:
        SettingsError: a setting is unknown, out of range or of the wrong type, or not a pair.
        UnknownName: there is no such observer.

    >>> log_of("tensorboard,dir=events")
    ('tensorboard', {'dir': 'events'})
    """
    name, *pairs = text.split(",")
    return name, _observer_settings(name, pairs, "--log", "tensorboard,dir=events")


def part_of(text: str) -> tuple[str, str]:
    """The part of the parameters in a text of ``--optimizer-for``, and its optimizer.

    Raises:
        SettingsError: it is not such a pair, or the optimizer is neither a name nor a call.

    >>> part_of("layers/0=sgd(0.1, momentum=0.9)")
    ('layers/0', 'sgd(0.1, momentum=0.9)')
    """
    part, equals, optimizer = map(str.strip, text.partition("="))
    if not (part and equals and optimizer):
        raise SettingsError(
            f"--optimizer-for got {text!r}, expected PART=OPTIMIZER.", "For example --optimizer-for '0=sgd(0.1)'."
        )
    check_call(optimizer, "--optimizer-for")
    return part, optimizer


def check_call(text: str, flag: str) -> None:
    """Check that the text of an optimizer is a name, or calls that can be parsed."""
    with suppress(ValueError):
        if text.replace("-", "_").isidentifier() or parse(text) is not None:
            return
    raise SettingsError(
        f"{flag} got {text!r}, which is neither the name of an optimizer nor a call.",
        "Write for example adam, 'sgd(0.1, momentum=0.9)' or 'chain(clip_by_global_norm(1.0), adamw())'.",
    )


def _observer_settings(name: str, texts: Iterable[str], flag: str, example: str) -> dict[str, Any]:
    """The settings of an observer in texts ``key=value``, checked."""
    config = REGISTRY.spec("observer", name).config
    annotations = {key: field.annotation for key, field in config.model_fields.items()}
    pairs = [pair(one, flag, example) for one in texts]
    given = {key: value_of(value, annotations.get(key)) for key, value in pairs}
    if twice := [key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1]:
        raise SettingsError(f"{flag} sets {twice[0]!r} twice, expected every setting once.")
    REGISTRY.settings("observer", name, given)
    return given


def text_of(value: Any) -> str:
    """A value of Python as ``--set`` reads it.

    >>> text_of(0.1), text_of(True), text_of(None), text_of([1, "a"])
    ('0.1', 'true', 'none', "[1, 'a']")
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(repr(one) if isinstance(one, str) else text_of(one) for one in value)}]"
    return str(value)

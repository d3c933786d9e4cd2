"""Settings of a run and where they come from: flags > ``--set`` > file > ``NEURAI_*`` > rule > defaults.

Neither JAX nor optax is imported here, so a configuration is checked before anything slow starts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, cast, get_args

from neurai_core.errors import BlockedName, DataError, NeurAIError, PluginError, SettingsError, UnknownName, UsageError
from neurai_core.explain import validate_settings
from neurai_core.naming import did_you_mean, suggest
from neurai_core.optax_texts import parse
from neurai_core.registry import REGISTRY
from neurai_core.run_defaults import SPIKING_RULE, STOPPER, SURROGATE
from neurai_core.run_settings import PARTS as PARTS
from neurai_core.run_settings import RunSettings as RunSettings
from neurai_core.specs import AlgorithmSpec, Config, PluginSpec

PYTHON = "python:"  # begins the description of an object that was given in place of a name
_OF_SURROGATE = ("--set-surrogate", "alpha=10")
SPIKELESS = ("mlp", "cnn")  # networks without a surrogate and without time
ENVIRONMENT = {"data": "NEURAI_DATASET"}  # NEURAI_DATA is the folder where data sets are looked for


@dataclass(frozen=True)
class Chosen:
    """The requested settings of a run.

    Attributes:
        settings: the run's own settings.
        parts: settings of ``rule``, ``data``, ``surrogate`` and ``optimizer``, as given.
        sources: where each value comes from; settings of a part are named like ``rule.eta``.
        record: what the file says about the run that wrote it: data hash and versions.
    """

    settings: RunSettings
    parts: dict[str, dict[str, Any]]
    sources: dict[str, str]
    record: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Every value by its name, those of parts as ``rule.eta``."""
        inner = {f"{part}.{key}": value for part, given in self.parts.items() for key, value in given.items()}
        return self.settings.model_dump() | inner


@dataclass
class _Layer:
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

    def said(self) -> _Layer:
        """This layer without the defaults that it started from."""
        return replace(self, values={name: value for name, value in self.values.items() if name in self.sources})

    def over(self, below: _Layer) -> _Layer:
        """Merge this layer over another; settings below that belong to a different rule are dropped."""
        changed = [part for part in PARTS if self.values.get(part, below.values.get(part)) != below.values.get(part)]
        kept = {part: given for part, given in below.parts.items() if part not in changed}
        parts = {part: kept.get(part, {}) | self.parts.get(part, {}) for part in {*kept, *self.parts}}
        sources = {
            name: at for name, at in below.sources.items() if name.partition(".")[0] not in changed or name in PARTS
        }
        said = {*self.values, *self.parts}
        record = {key: value for key, value in below.record.items() if key.removesuffix("_sha256") not in said}
        return _Layer(below.values | self.values, parts, sources | self.sources, record | self.record)


def choose(
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    set_surrogate: Iterable[str] = (),
    parts: Mapping[str, Mapping[str, Any]] | None = None,
    objects: Iterable[str] = (),
) -> Chosen:
    """Merge all sources and check what can be checked without computing.

    Args:
        flags: run settings by name; None for a flag that was not given.
        sets: strings ``key=value``: a setting of the rule or of the run, or ``rule.``, ``data.``, ``surrogate.``
            or ``optimizer.`` with the name of a setting.
        file: a ``config.toml`` as `neurai_core.training.record` writes it.
        environ: the environment.
        set_surrogate: strings ``key=value``: settings of the surrogate.
        parts: settings of ``rule``, ``data``, ``surrogate`` and ``optimizer`` as values, as Python code gives them.
        objects: names of settings that the file may describe as objects of Python, because the caller has these; they
            keep their defaults.

    Raises:
        SettingsError: a setting is unknown, out of range or of the wrong type.
        UnknownName: no rule, data set or surrogate has that name.
        UsageError: the file cannot be read.

    >>> chosen = choose({"epochs": 3}, ["lr=0.01"], environ={"NEURAI_EPOCHS": "9", "NEURAI_SEED": "4"})
    >>> chosen.settings.epochs, chosen.settings.lr, chosen.settings.seed
    (3, 0.01, 4)
    >>> chosen.sources["epochs"], chosen.sources["lr"], chosen.sources["seed"]
    ('--epochs', '--set', 'NEURAI_SEED')
    """
    merged = _from_environment(environ)
    if file is not None:
        merged = _from_file(file, objects).over(merged)
    flag_layer, pairs = _from_flags(flags or {}, parts or {}), [_pair(text) for text in sets]
    pairs += [(f"surrogate.{key}", value) for key, value in (_pair(text, *_OF_SURROGATE) for text in set_surrogate)]
    named = {name: value for key, value in pairs if (name := RunSettings.setting_named(key))}
    asked = merged.said().values | named | flag_layer.values
    rule = asked.get("rule") or _usual_rule(asked.get("model", _default("model")))
    merged.rename_rule_settings(REGISTRY.spec("algorithm", rule).config.formerly)
    values, inner = _from_sets(pairs, rule, asked.get("data", _default("data")))
    merged = inner.over(flag_layer.over(values.over(merged))).said().over(_from_rule(rule))
    return _checked(cast(RunSettings, validate_settings(RunSettings, merged.values, name="a run")), merged)


def data_reference(text: str) -> tuple[str, dict[str, str]]:
    """The name of a data set and the settings given with it.

    >>> data_reference("digits")
    ('digits', {})
    >>> data_reference("npz:/data/mine.npz")
    ('npz', {'path': '/data/mine.npz'})
    """
    name, colon, path = text.partition(":")
    if not colon:
        _dataset_spec(name)
        return name, {}
    if "path" not in _dataset_spec(name).config.model_fields:
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


def variable(name: str) -> str:
    """The environment variable of a run setting.

    >>> variable("batch_size"), variable("data")
    ('NEURAI_BATCH_SIZE', 'NEURAI_DATASET')
    """
    return ENVIRONMENT.get(name, f"NEURAI_{name.upper()}")


def settings_of_texts(texts: Iterable[str], config: type[Config]) -> dict[str, Any]:
    """Parse ``key=value`` strings into settings, without checking values.

    Raises:
        SettingsError: a string is not a pair.

    >>> settings_of_texts(["batch-size=8", "data=digits"], RunSettings)
    {'batch_size': 8, 'data': 'digits'}
    """
    annotations = {name: field.annotation for name, field in config.model_fields.items()}
    pairs = ((config.setting_named(key) or key, value) for key, value in map(_pair, texts))
    return {key: _value(value, annotations.get(key)) for key, value in pairs}


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
    _check_call(optimizer, "--optimizer-for")
    return part, optimizer


def _check_call(text: str, flag: str) -> None:
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
    pairs = [_pair(one, flag, example) for one in texts]
    given = {key: _value(value, annotations.get(key)) for key, value in pairs}
    if twice := [key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1]:
        raise SettingsError(f"{flag} sets {twice[0]!r} twice, expected every setting once.")
    REGISTRY.settings("observer", name, given)
    return given


# ---------------------------------------------------------------------------- the sources


def _from_rule(rule: str) -> _Layer:
    """Defaults that suit a rule, over the defaults of all parts."""
    layer = _Layer({name: _default(name) for name in PARTS} | {"rule": rule})
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


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer({name: _default(name) for name in PARTS})
    for name in RunSettings.model_fields:
        if environ.get(variable(name)):
            layer.put(name, environ[variable(name)], variable(name))
    return layer


def _from_flags(flags: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> _Layer:
    layer = _Layer()
    for part, given in parts.items():
        for key, value in given.items():
            layer.put(f"{part}.{key}", value, "--set")
    for name, value in flags.items():
        if value is not None:
            layer.put(name, value, f"--{name.replace('_', '-')}")
    return layer


def _from_sets(pairs: list[tuple[str, str]], rule: str, data: str) -> tuple[_Layer, _Layer]:
    """Settings of the run and of its parts, where flags choose the parts."""
    config = REGISTRY.spec("algorithm", rule).config
    fields = config.model_fields
    values, inner = _Layer(), _Layer()
    for key, text in pairs:
        name = setting_name(key, config, rule, data)
        owner, _, setting = name.rpartition(".")
        annotation = fields[setting].annotation if owner == "rule" and setting in fields else None
        source = "--set-surrogate" if owner == "surrogate" else "--set"
        (inner if owner else values).put(name, _value(text, annotation) if owner else text, source)
    return values, inner


def _pair(text: str, flag: str = "--set", example: str = "eta=0.1") -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise SettingsError(f"{flag} got {text!r}, expected key=value.", f"For example {flag} {example}.")
    return key.strip().replace("-", "_"), value.strip()


def setting_name(key: str, config: type[Config], rule: str, data: str, *, flag: str = "--set") -> str:
    """The full name of a key of ``--set``: ``rule.eta`` for a setting of the rule, unchanged for one of the run.

    Args:
        key: the key.
        config: settings class of the rule.
        rule: the rule.
        data: the data set.
        flag: the option that has the key, for errors.

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
    of_data = {name: f"data.{name}" for name in REGISTRY.spec("dataset", data_name).config.model_fields}
    known = of_data | {name: name for name in (*config.model_fields, *RunSettings.model_fields)}
    near, has = suggest(key, known), ", ".join(sorted(config.model_fields)) or "no settings"
    nearest = f" Did you mean {known[near]!r}?" if near else ""
    raise SettingsError(
        f"{flag} got {key!r}, which is neither a setting of the rule {rule!r} nor of a run.{nearest}",
        f"The rule has: {has}. A run has: {', '.join(RunSettings.model_fields)}. "
        f"The data set {data_name!r} has: {', '.join(of_data.values()) or 'no settings'}.",
    )


def _value(text: str, annotation: Any) -> Any:
    """The value of a command-line string: parsed as TOML if possible, else the string itself."""
    if annotation is str:
        return text
    if text.lower() == "none" and NoneType in get_args(annotation):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # not TOML, or a number or nesting that is too large
        return text


def _from_file(path: Path, objects: Iterable[str]) -> _Layer:
    content = _read(path)
    layer = _Layer(record=_table(content.pop("record", {}), f"[record] of {path}"))
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
        f"Go on with neurai.fit(..., out={str(path.parent)!r}, resume=True); neurai.load_run takes the {name} too.",
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


# ---------------------------------------------------------------------------- what was chosen


def _usual_rule(model: str) -> str:
    """The default rule of a run."""
    return SPIKING_RULE if _family(model) == "snn" else _default("rule")


def _default(name: str) -> Any:
    return RunSettings.model_fields[name].default


def _checked(settings: RunSettings, merged: _Layer) -> Chosen:
    with blaming_spec(settings.rule, merged.sources.get("data", "")):
        name, path = data_reference(settings.data)
    parts = {part: dict(merged.parts.get(part, {})) for part in PARTS}
    parts["data"] = path | parts["data"]
    sources = {key: merged.sources.get(key, "default") for key in RunSettings.model_fields}
    sources |= {f"data.{key}": sources["data"] for key in path}
    sources |= {key: at for key, at in merged.sources.items() if "." in key}
    chosen = Chosen(settings.model_copy(update={"data": name}), parts, sources, dict(merged.record))
    settings = chosen.settings.model_copy(update=_fitting(chosen))
    _refuse_alignment(chosen)
    if settings.stop_early is not None:
        stopping_of(settings.stop_early)
    if not settings.optimizer.startswith(PYTHON):
        _check_call(settings.optimizer, "--optimizer")
    parts_of = [part_of(text)[0] for text in settings.optimizer_for]
    if twice := next((part for part in parts_of if parts_of.count(part) > 1), None):
        raise SettingsError(f"--optimizer-for names {twice!r} twice, expected every part once.", "Leave one out.")
    for number, text in enumerate(settings.log):
        log_of(text)
        if text in settings.log[:number]:
            raise SettingsError(f"--log names {text!r} twice, expected every observer once.", "Leave one out.")
    used = {"rule": settings.rule, "data": name} | ({"surrogate": settings.surrogate} if settings.surrogate else {})
    for part, owner in used.items():
        _refuse_unused(part, REGISTRY.settings(PARTS[part], owner, parts[part]), sources)
    return replace(chosen, settings=settings)


def _refuse_unused(part: str, config: Config, sources: Mapping[str, str]) -> None:
    """Raise for a setting that has no meaning beside the others, even if it has its default value."""
    for name, where in config.unused().items():
        source = sources.get(f"{part}.{name}", "")
        if source.startswith("--"):
            raise SettingsError(f"{source} got {name}, which has no meaning {where}.", "Leave it out.")


def _fitting(chosen: Chosen) -> dict[str, Any]:
    """Check and drop settings that this rule, network or data set does not use."""
    return {
        "activities": _activities(chosen),
        "steps": _steps(chosen),
        "surrogate": _surrogate(chosen),
        "schedule": _schedule(chosen),
        "loss": _loss(chosen),
    }


def _loss(chosen: Chosen) -> str:
    """The loss; one that was not requested gives way to a rule that learns from inputs alone."""
    spec = cast(AlgorithmSpec, REGISTRY.spec("algorithm", chosen.settings.rule))
    if not spec.unsupervised or chosen.sources["loss"].startswith("--"):
        return chosen.settings.loss
    chosen.sources["loss"] = "default"
    return str(_default("loss"))


def _schedule(chosen: Chosen) -> str:
    """The schedule of the learning rate; none beside a learning rate that is one."""
    settings, at = chosen.settings, chosen.sources["schedule"]
    if not isinstance(settings.lr, str):
        return settings.schedule
    if at.startswith("--") and settings.schedule != "constant":
        raise SettingsError(f"{at} is given, and the learning rate is a schedule itself.", "Leave it out.")
    return "constant"


def _activities(chosen: Chosen) -> str | None:
    """What relaxes; an error if it was requested with a rule that takes no networks."""
    rule, at = chosen.settings.rule, chosen.sources["activities"]
    if chosen.settings.activities is None or needs_of(rule) == "network":
        return chosen.settings.activities
    if at.startswith("--") or at == chosen.sources["rule"]:
        names = ", ".join(REGISTRY.names("algorithm", "network")) or "none is installed"
        raise SettingsError(
            f"{at} chooses activities, and the rule {rule!r} takes no networks.".replace("--set", "--set activities"),
            f"Rules that do: {names}. For {rule!r}, leave it out.",
        )
    chosen.sources["activities"] = "default"
    return None


def _refuse_alignment(chosen: Chosen) -> None:
    """Raise if gradients are to be compared with a reference that is none for the rule."""
    rule = chosen.settings.rule
    why = cast(AlgorithmSpec, REGISTRY.spec("algorithm", rule)).no_alignment
    if chosen.settings.align and why:
        at = chosen.sources["align"]
        raise SettingsError(
            f"{at} compares with the gradient of the feed-forward loss, which is no reference for {rule!r}: {why}.",
            "Leave it out.",
        )


def needs_of(rule: str) -> str:
    """The form of model that a rule needs.

    >>> needs_of("bp")
    'callable'
    """
    return cast(AlgorithmSpec, REGISTRY.spec("algorithm", rule)).needs


def _steps(chosen: Chosen) -> int | None:
    """The time steps for the network; data coded in time have their own setting for them."""
    settings, sources = chosen.settings, chosen.sources
    if settings.steps is None:
        return None
    if "steps" in REGISTRY.spec("dataset", settings.data).config.model_fields:
        if _rank(sources["steps"]) > _rank(sources.get("data.steps", "default")):
            chosen.parts["data"]["steps"], sources["data.steps"] = settings.steps, sources["steps"]
            chosen.record.pop("data_sha256", None)
        sources["steps"] = "default"
        return None
    return None if _refused(chosen, "steps") else settings.steps


def _surrogate(chosen: Chosen) -> str | None:
    """The name of the surrogate of a spiking network, which is checked with its settings."""
    settings, given = chosen.settings, chosen.parts["surrogate"]
    if _refused(chosen, "surrogate"):
        given.clear()
        return None
    usual = SURROGATE if given or _family(settings.model) == "snn" else None
    name = settings.surrogate or usual
    if name is not None:
        with blaming_spec(settings.rule, chosen.sources["surrogate"]):
            REGISTRY.spec("surrogate", name)
        REGISTRY.settings("surrogate", name, given)
    return name


def _refused(chosen: Chosen, name: str) -> bool:
    """Whether the network ignores a setting; an error if it was given on the command line."""
    model = chosen.settings.model
    if _family(model) not in SPIKELESS:
        return False
    at = {key: source for key, source in chosen.sources.items() if key.partition(".")[0] == name}
    asked = next((source for source in at.values() if source.startswith("--")), "")
    if asked:
        flag = f"{asked} {name}" if asked == "--set" else asked
        raise SettingsError(
            f"{flag} is for spiking networks, and --model {model} is none.", "Write --model snn:128, or leave it out."
        )
    chosen.sources.update(dict.fromkeys(at, "default"))
    return True


def _family(model: str) -> str:
    return model.partition(":")[0]


def _rank(source: str) -> int:
    """The precedence of a source, as ordered by `choose`."""
    if source == "default" or source.startswith(("rule ", "NEURAI_")):
        return int(source.startswith("NEURAI_"))
    return 3 + (not source.startswith("--set")) if source.startswith("--") else 2

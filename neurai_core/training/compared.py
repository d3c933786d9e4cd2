"""The settings of a comparison: several rules on one problem. Neither JAX nor optax is imported here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from neurai_core.errors import SettingsError, UsageError
from neurai_core.naming import did_you_mean
from neurai_core.registry import REGISTRY
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.setting_checks import needs_of
from neurai_core.training.setting_sources import variable
from neurai_core.training.setting_texts import text_of
from neurai_core.training.settings import PARTS, Chosen, RunSettings, choose

# What all rules share, so that they start from the same parameters and see the same batches.
SHARED = ("model", "data", "surrogate", "steps", "epochs", "batch_size", "seed")
# What a comparison decides itself.
_DECIDED = {
    "rule": "the rules are named first",
    "stop_early": "all rules take all steps",
    "align": "alignment is always measured",
    "devices": "it trains on one device",
    "shard": "it trains on one device",
}
_EXAMPLE = "For example neurai compare {} --data digits --seeds 5."


@dataclass(frozen=True)
class Plan:
    """What a comparison runs.

    Attributes:
        rules: the settings of every rule, with the first seed; they differ only in what is the rule's own.
        seeds: the seeds of every rule.
    """

    rules: dict[str, Chosen]
    seeds: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """Everything that the plan decides, as JSON has it."""
        return {"seeds": list(self.seeds), "rules": {rule: chosen.values() for rule, chosen in self.rules.items()}}


@dataclass
class _Asked:
    """What the settings ask of every rule, and of one rule alone."""

    common: list[str] = field(default_factory=list)
    sets: dict[str, list[str]] = field(default_factory=dict)
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)


def plan(
    rules: Sequence[str],
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    *,
    seeds: int = 5,
    set_surrogate: Iterable[str] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """Plan a comparison, and check what can be checked without computing.

    What the rules share is taken from flags, then ``--set``, then the environment, then the defaults of a run; the
    defaults of a rule decide only what is its own: loss, optimizer, learning rate and its settings.

    Args:
        rules: at least two names.
        flags: run settings by name, for all rules; None for a flag that was not given.
        sets: strings ``rule.key=value``, or ``key=value`` for a setting of the run and of all rules.
        seeds: number of seeds, counted from the seed of the run.
        set_surrogate: strings ``key=value``: settings of the surrogate.
        settings: settings by rule as values, as Python code gives them.
        environ: the environment.

    Raises:
        UsageError: fewer than two rules, or one of them twice.
        UnknownName: no rule or data set has that name.
        SettingsError: a setting is unknown, out of range, shared by all rules, or of a rule that is not compared.

    >>> made = plan(["bp", "pc"], {"epochs": 2}, ["pc.eta=0.05", "bp.lr=0.01"], seeds=3, environ={})
    >>> made.seeds, made.rules["pc"].parts["rule"], made.rules["bp"].settings.lr
    ((0, 1, 2), {'eta': 0.05}, 0.01)
    """
    specs = _specs(rules)
    if seeds < 1:
        raise SettingsError(f"--seeds got {seeds}, expected at least 1.", "Five or more give useful tests.")
    for name, value in (flags or {}).items():
        _refuse_decided(name if value is not None else "")
    asked = _asked(specs, sets, settings or {})
    chosen = {}
    for rule in specs:
        given = _flags_of(rule, specs, dict(flags or {}), asked, environ)
        chosen[rule] = _without_observers(
            choose(given, [*asked.common, *asked.sets.get(rule, [])], environ=environ, set_surrogate=set_surrogate)
        )
    first = next(iter(chosen.values())).settings.seed
    if first + seeds > 2**32:
        raise SettingsError(f"The seeds {first} to {first + seeds - 1} exceed the largest seed, {2**32 - 1}.")
    return Plan(chosen, tuple(range(first, first + seeds)))


def _specs(rules: Sequence[str]) -> dict[str, AlgorithmSpec]:
    """The specs of the rules by their names as given."""
    specs = {rule: cast(AlgorithmSpec, REGISTRY.spec("algorithm", rule)) for rule in rules}
    names = [specs[rule].name for rule in rules]
    for at, name in enumerate(names):
        if name in names[:at]:
            other = rules[names.index(name)]
            also = f", as {other!r} and {rules[at]!r}" if other != rules[at] else ""
            raise UsageError(f"The rule {name!r} is given twice{also}.", "Name every rule once.")
    if len(rules) < 2:
        got = f"got only {rules[0]!r}" if rules else "got none"
        raise UsageError(
            f"A comparison needs at least two rules, {got}.", _EXAMPLE.format(" ".join([*rules, "RULE", "RULE"][:2]))
        )
    _refuse_mixture(specs)
    return specs


def _refuse_mixture(specs: Mapping[str, AlgorithmSpec]) -> None:
    """Raise for rules that learn from inputs alone beside others: they train networks with other outputs."""
    alone = [rule for rule, spec in specs.items() if spec.unsupervised]
    others = [rule for rule in specs if rule not in alone]
    if alone and others:
        raise UsageError(
            f"{alone[0]} learns from inputs alone and {others[0]} from targets, so they train different networks.",
            "Compare rules of one kind.",
        )


# ---------------------------------------------------------------------------- who a setting is for


def _asked(
    specs: Mapping[str, AlgorithmSpec], sets: Iterable[str], settings: Mapping[str, Mapping[str, Any]]
) -> _Asked:
    asked = _Asked()
    for text in sets:
        key, equals, value = text.partition("=")
        owner, dot, setting = key.strip().rpartition(".")
        if not equals or (owner in PARTS and owner != "rule"):
            asked.common.append(text)
        elif dot:
            _put(asked, specs, _named(owner, specs), setting.replace("-", "_"), value.strip(), text=True)
        elif of_run := RunSettings.setting_named(key.strip()):
            _refuse_decided(of_run)
            asked.common.append(text)
        else:
            _refuse_ownerless(key.strip(), specs)
    for owner, given in settings.items():
        for setting, value in given.items():
            _put(asked, specs, _named(owner, specs), setting, value, text=False)
    return asked


def _put(asked: _Asked, specs: Mapping[str, AlgorithmSpec], rule: str, setting: str, value: Any, *, text: bool) -> None:
    """Keep a setting of one rule: one of its own, or one of its run that the rules do not share."""
    of_run = RunSettings.setting_named(setting)
    if specs[rule].config.setting_named(setting) or not of_run:
        asked.sets.setdefault(rule, []).append(f"rule.{setting}={value if text else text_of(value)}")
        return
    _refuse_decided(of_run)
    if of_run in SHARED:
        raise SettingsError(
            f"{of_run} is set for the rule {rule!r} alone, and all rules of a comparison share it.",
            f"Set it for all: --{of_run.replace('_', '-')}.",
        )
    asked.flags.setdefault(rule, {})[of_run] = value


def _refuse_decided(name: str) -> None:
    if name in _DECIDED:
        raise SettingsError(f"{name} is not a setting of a comparison: {_DECIDED[name]}.", "Leave it out.")


def _named(owner: str, specs: Mapping[str, AlgorithmSpec]) -> str:
    """The compared rule that owns a setting."""
    if owner in specs:
        return owner
    known = {name: rule for rule, spec in specs.items() for name in (spec.name, *spec.aliases)}
    if owner in known:
        return known[owner]
    near = "" if owner in REGISTRY.names("algorithm") else did_you_mean(owner, specs)
    raise SettingsError(
        f"Settings are given for {owner!r}, which is not compared.{near}",
        f"Compared: {', '.join(specs)}. Write for example --set {next(iter(specs))}.KEY=VALUE.",
    )


def _refuse_ownerless(key: str, specs: Mapping[str, AlgorithmSpec]) -> None:
    owners = [rule for rule, spec in specs.items() if spec.config.setting_named(key)]
    if owners:
        raise SettingsError(
            f"--set got {key!r}, a setting of {' and '.join(owners)}, and does not say whose.",
            f"Write --set {owners[0]}.{key}=VALUE.",
        )
    raise SettingsError(
        f"--set got {key!r}, which is a setting neither of a compared rule nor of a run."
        f"{did_you_mean(key, RunSettings.model_fields)}",
        f"A run has: {', '.join(RunSettings.model_fields)}.",
    )


# ---------------------------------------------------------------------------- the settings of one rule


def _flags_of(
    rule: str,
    specs: Mapping[str, AlgorithmSpec],
    flags: dict[str, Any],
    asked: _Asked,
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """The flags of one rule: what is shared never comes from its own defaults."""
    set_for_all = {RunSettings.setting_named(text.partition("=")[0].strip()) for text in asked.common}
    for name in SHARED:
        said = flags.get(name) is not None or name in set_for_all or environ.get(variable(name))
        if not said and RunSettings.model_fields[name].default is not None:
            flags[name] = RunSettings.model_fields[name].default
    if needs_of(rule) != "network" and any(needs_of(other) == "network" for other in specs):
        flags["activities"] = None  # it is for the others
    return flags | asked.flags.get(rule, {}) | {"rule": rule, "stop_early": None, "align": None}


def _without_observers(chosen: Chosen) -> Chosen:
    """All rules take all steps, and alignment is measured beside the steps."""
    return chosen.on_one_device(stop_early=None, align=False)

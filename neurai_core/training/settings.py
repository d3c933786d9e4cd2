"""Settings of a run and where they come from: flags > ``--set`` > file > ``NEURAI_*`` > rule > defaults.

`choose` merges the sources of `neurai_core.training.setting_sources`, read with `neurai_core.training.setting_texts`,
and has `neurai_core.training.setting_checks` check the result. Neither JAX nor optax is imported here, so a
configuration is checked before anything slow starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from neurai_core.explain import validate_settings
from neurai_core.registry import REGISTRY
from neurai_core.run_defaults import SPIKING_RULE
from neurai_core.run_settings import PARTS as PARTS
from neurai_core.run_settings import RunSettings as RunSettings
from neurai_core.training.chosen import Chosen as Chosen
from neurai_core.training.setting_checks import checked, family
from neurai_core.training.setting_sources import default, from_environment, from_file, from_flags, from_rule, from_sets
from neurai_core.training.setting_texts import pair

_OF_SURROGATE = ("--set-surrogate", "alpha=10")


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
    merged = from_environment(environ)
    if file is not None:
        merged = from_file(file, objects).over(merged)
    flag_layer, pairs = from_flags(flags or {}, parts or {}), [pair(text) for text in sets]
    pairs += [(f"surrogate.{key}", value) for key, value in (pair(text, *_OF_SURROGATE) for text in set_surrogate)]
    named = {name: value for key, value in pairs if (name := RunSettings.setting_named(key))}
    asked = merged.said().values | named | flag_layer.values
    rule = asked.get("rule") or _usual_rule(asked.get("model", default("model")))
    merged.rename_rule_settings(REGISTRY.spec("algorithm", rule).config.formerly)
    values, inner = from_sets(pairs, rule, asked.get("data", default("data")))
    merged = inner.over(flag_layer.over(values.over(merged))).said().over(from_rule(rule))
    return checked(cast(RunSettings, validate_settings(RunSettings, merged.values, name="a run")), merged)


def _usual_rule(model: str) -> str:
    """The default rule of a run."""
    return SPIKING_RULE if family(model) == "snn" else default("rule")

"""What fits together among the settings of a run: each is used by its rule, network and data, or given up.

Neither JAX nor optax is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from neurai_core.errors import SettingsError
from neurai_core.registry import REGISTRY
from neurai_core.run_defaults import SURROGATE
from neurai_core.run_settings import PARTS, RunSettings
from neurai_core.specs import AlgorithmSpec, Config
from neurai_core.training.chosen import PYTHON, Chosen
from neurai_core.training.setting_sources import Layer, blaming_spec, default
from neurai_core.training.setting_texts import check_call, data_reference, log_of, part_of, stopping_of

SPIKELESS = ("mlp", "cnn")  # networks without a surrogate and without time


def checked(settings: RunSettings, merged: Layer) -> Chosen:
    """The choice that merged settings make, with what this rule, network or data set does not use given up.

    Args:
        settings: the run's own settings.
        merged: all settings and their sources.

    Raises:
        SettingsError: a setting is unknown, out of range or of the wrong type, or was requested and is not used.
        UnknownName: no rule, data set, surrogate or observer has that name.
    """
    with blaming_spec(settings.rule, merged.sources.get("data", "")):
        name, path = data_reference(settings.data)
    parts = {part: dict(merged.parts.get(part, {})) for part in PARTS}
    parts["data"] = path | parts["data"]
    sources = {key: merged.sources.get(key, "default") for key in RunSettings.model_fields}
    sources |= {f"data.{key}": sources["data"] for key in path}
    sources |= {key: at for key, at in merged.sources.items() if "." in key}
    chosen = Chosen(settings.model_copy(update={"data": name}), parts, sources, dict(merged.record))
    _require_path(chosen)
    settings = chosen.settings.model_copy(update=_fitting(chosen))
    _refuse_alignment(chosen)
    _refuse_parts_of_one_device(chosen)
    _check_texts(settings)
    used = {"rule": settings.rule, "data": name} | ({"surrogate": settings.surrogate} if settings.surrogate else {})
    for part, owner in used.items():
        _refuse_unused(part, REGISTRY.settings(PARTS[part], owner, parts[part]), sources)
    return replace(chosen, settings=settings)


def _require_path(chosen: Chosen) -> None:
    """Raise if data are to be read from a path, or are one of several, and nothing says which."""
    name, given = chosen.settings.data, chosen.parts["data"]
    fields = REGISTRY.spec("dataset", name).config.model_fields
    for field, word in (("path", "path"), ("which", "name")):
        if field in fields and fields[field].is_required() and field not in given:
            raise SettingsError(
                f"--data {name} is given without a {word}: {fields[field].description}.",
                f"Write --data {name}:{word.upper()} ('{name}:{word.upper()}' in Python).",
            )


def _check_texts(settings: RunSettings) -> None:
    """Check the settings that are texts of their own kind: early stopping, optimizers and observers."""
    if settings.stop_early is not None:
        stopping_of(settings.stop_early)
    if not settings.optimizer.startswith(PYTHON):
        check_call(settings.optimizer, "--optimizer")
    parts_of = [part_of(text)[0] for text in settings.optimizer_for]
    if twice := next((part for part in parts_of if parts_of.count(part) > 1), None):
        raise SettingsError(f"--optimizer-for names {twice!r} twice, expected every part once.", "Leave one out.")
    for number, text in enumerate(settings.log):
        log_of(text)
        if text in settings.log[:number]:
            raise SettingsError(f"--log names {text!r} twice, expected every observer once.", "Leave one out.")


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
    return str(default("loss"))


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
            f"{at} compares with the gradient of the feed-forward loss, which is not a reference for {rule!r}: {why}.",
            "Leave it out.",
        )


def _refuse_parts_of_one_device(chosen: Chosen) -> None:
    """Raise if parameters are to be split, and nothing says over how many devices."""
    if chosen.settings.shard is not None and chosen.settings.devices is None:
        raise SettingsError(
            f"{chosen.sources['shard']} got shard={chosen.settings.shard}, and a run without devices uses one.",
            "Add --devices all (devices='all').",
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
    usual = SURROGATE if given or family(settings.model) == "snn" else None
    name = settings.surrogate or usual
    if name is not None:
        with blaming_spec(settings.rule, chosen.sources["surrogate"]):
            REGISTRY.spec("surrogate", name)
        REGISTRY.settings("surrogate", name, given)
    return name


def _refused(chosen: Chosen, name: str) -> bool:
    """Whether the network ignores a setting; an error if it was given on the command line."""
    model = chosen.settings.model
    if family(model) not in SPIKELESS:
        return False
    at = {key: source for key, source in chosen.sources.items() if key.partition(".")[0] == name}
    asked = next((source for source in at.values() if source.startswith("--")), "")
    if asked:
        flag = f"{asked} {name}" if asked == "--set" else asked
        raise SettingsError(
            f"{flag} is for spiking networks, and --model {model} is not one.",
            "Write --model snn:128, or leave it out.",
        )
    chosen.sources.update(dict.fromkeys(at, "default"))
    return True


def family(model: str) -> str:
    """The kind of a network.

    >>> family("snn:128")
    'snn'
    """
    return model.partition(":")[0]


def _rank(source: str) -> int:
    """The precedence of a source, as ordered by `choose`."""
    if source == "default" or source.startswith(("rule ", "NEURAI_")):
        return int(source.startswith("NEURAI_"))
    return 3 + (not source.startswith("--set")) if source.startswith("--") else 2

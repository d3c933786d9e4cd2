"""The settings of a run besides those of its parts, and which of them the spec of a rule may choose."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, Literal

from pydantic import Field, field_validator

from neurai_core.errors import SettingsError
from neurai_core.explain import validate_settings
from neurai_core.naming import did_you_mean
from neurai_core.optax_texts import parse
from neurai_core.registry import REGISTRY
from neurai_core.run_defaults import DATA, RULE, SPIKING_RULE, STOPPER, SURROGATE
from neurai_core.specs import AlgorithmSpec, Config

# Parts of a run with settings of their own -> kind.
PARTS = {"rule": "algorithm", "data": "dataset", "surrogate": "surrogate", "optimizer": ""}


class RunSettings(Config):
    """Settings of a run, besides those of its rule, data set, surrogate and optimizer."""

    rule: str = Field(
        RULE, min_length=1, description=f"learning rule by name; the default for spiking networks is {SPIKING_RULE}"
    )
    model: str = Field(
        "mlp:256,128,gelu",
        min_length=1,
        description="network: mlp:WIDTHS, cnn:CHANNELS, snn:WIDTHS, module:attribute or file.py:attribute",
    )
    activities: Literal["layers", "named", "modules", "auto"] | None = Field(
        None,
        description="what relaxes, for rules that take networks: layers; named, what the model names; modules, the "
        "output of every module; or auto, every product with a parameter. Without it, layers if the model can be split "
        "into them, else named",
    )
    data: str = Field(
        DATA, min_length=1, description="data set by name, or npz:FILE, npy:FOLDER, idx:FOLDER, tonic:NAME"
    )
    surrogate: str | None = Field(
        None, min_length=1, description=f"surrogate by name, for spiking networks; the default is {SURROGATE}"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="number of time steps: of the data if they are coded in time, otherwise those for which a spiking "
        "network sees an example",
    )
    optimizer: str = Field(
        "adam",
        min_length=1,
        description="name of an optax optimizer, or calls such as "
        "chain(clip_by_global_norm(1.0), adamw(weight_decay=1e-2)); one called without a learning rate gets lr",
    )
    optimizer_for: tuple[str, ...] = Field(
        (),
        description="optimizers of parts of the parameters, such as 0=sgd(0.1) or layers/0=sgd; several are separated "
        "by semicolons",
    )
    lr: float | str = Field(
        2e-3,
        description="learning rate above 0, the maximum of the schedule, or a schedule of optax such as "
        "warmup_cosine_decay_schedule(0, 1e-2, 100, 1000)",
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="learning rate over the run: decaying to 0 as half a cosine, or constant"
    )
    loss: str = Field("auto", min_length=1, description="loss by name; auto is cross_entropy for classes, else mse")
    epochs: int = Field(25, ge=1, le=1_000_000, description="passes over the training data")
    batch_size: int = Field(64, ge=1, description="examples per step")
    dtype: Literal["bfloat16"] | None = Field(
        None,
        description="type of number to compute in: bfloat16, with parameters and optimizer in their own type "
        "(float32); by default, that of the parameters",
    )
    devices: int | Literal["all"] | None = Field(
        None, description="number of devices that share every batch, or all; one by default"
    )
    shard: Literal["params"] | None = Field(
        None,
        description="what is split over the devices besides batches: params, large parameters and what the optimizer "
        "keeps for them; by default, every device has all of them",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of parameters, data order and stochastic layers")
    stop_early: str | None = Field(
        None,
        min_length=1,
        description="end training when it no longer improves: settings of the observer "
        f"{STOPPER}, such as patience=5 or patience=5,metric=test_accuracy",
    )
    log: tuple[str, ...] = Field(
        (),
        description="observers that log the metrics, by name with their settings, such as csv or "
        "tensorboard,dir=events; several are separated by semicolons",
    )
    align: bool = Field(False, description="add to the metrics how well the rule's gradients align with the true ones")

    @field_validator("lr", mode="plain")
    @classmethod
    def _rate(cls, given: Any) -> float | str:
        """A number, also one in a text, or the text of a call."""
        number = None
        with suppress(TypeError, ValueError):
            number = float(given)
        if number is None and isinstance(given, str):
            with suppress(ValueError):
                if parse(given) is not None:
                    return given
        if number is None:
            raise ValueError("expected a number, or a call of optax such as cosine_decay_schedule(0.1, 1000)")
        if not math.isfinite(number):
            raise ValueError("input should be a finite number")
        if number <= 0:
            raise ValueError("input should be greater than 0")
        return number

    @field_validator("devices", mode="plain")
    @classmethod
    def _devices(cls, given: Any) -> Any:
        """A number, also one in a text, or ``all``."""
        if given is None or given == "all":
            return given
        with suppress(TypeError, ValueError, OverflowError):
            if not isinstance(given, bool) and int(given) == float(given) and int(given) > 0:
                return int(given)
        raise ValueError("expected a number of devices from 1 on, or all")

    @field_validator("log", "optimizer_for", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return tuple(filter(None, map(str.strip, given.split(";")))) if isinstance(given, str) else given


def check_defaults(spec: AlgorithmSpec) -> None:
    """Check that a run accepts the settings that suit a rule: their names, their values, and what they name.

    The names of losses and optimizers are known to JAX and optax only, and are looked up by the conformance kit.

    Args:
        spec: whose ``defaults`` are checked. Settings of the rule itself are validated by its settings class.

    Raises:
        SettingsError: there is no such setting, or it does not take the value.
        UnknownName: no data set or surrogate has that name.

    >>> check_defaults(AlgorithmSpec(name="mine", summary="A rule", defaults={"epochs": 7}))
    """
    values = {name: value for name, value in spec.defaults.items() if "." not in name}
    parts: dict[str, dict[str, Any]] = {}
    for name in spec.defaults.keys() - values.keys():
        part, _, key = name.partition(".")
        if part not in PARTS:
            raise SettingsError(
                f"{name}: a run has no part {part!r}.{did_you_mean(part, PARTS)}", f"Its parts are {', '.join(PARTS)}."
            )
        parts.setdefault(part, {})[key] = spec.defaults[name]
    validate_settings(RunSettings, values, name="a run")
    validate_settings(spec.config, parts.get("rule", {}), name=spec.name)
    if "data" in values:
        REGISTRY.spec("dataset", values["data"].partition(":")[0])
    if surrogate := values.get("surrogate"):
        REGISTRY.settings("surrogate", surrogate, parts.get("surrogate", {}))

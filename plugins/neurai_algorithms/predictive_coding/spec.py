"""Predictive coding's name, settings and facts, without JAX; its mathematics is in `predictive_coding`."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator

from neurai_core.naming import canonical
from neurai_core.optax_texts import Transformation, parse, written
from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Relaxes, Variant


class PCMode(StrEnum):
    """How a predictive coding rule finds its errors; the last two are those of the bidirectional rule.

    Attributes:
        STRICT: descent on the energy, predictions recomputed in every sweep.
        FIXED_PRED: predictions held at their feed-forward values, in closed form.
        EXACT: the errors of back-propagation.
        ERROR: descent on the energy of STRICT, with its errors as coordinates.
        INCREMENTAL: a parameter step in every sweep.
        SWEIGHT_BISTRICT: bidirectional, one set of weights for both directions.
        BISTRICT: bidirectional, separate weights up and down.

    >>> PCMode.STRICT == "strict"
    True
    """

    STRICT = "strict"
    FIXED_PRED = "fixed_pred"
    EXACT = "exact"
    INCREMENTAL = "incremental"
    ERROR = "error"
    SWEIGHT_BISTRICT = "sweight_bistrict"
    BISTRICT = "bistrict"


def finite_and_positive(value: Any) -> Any:
    """Return the value, or raise if it is a number that is not finite and greater than 0.

    >>> finite_and_positive("per_sample")
    'per_sample'
    """
    if isinstance(value, int | float) and (isinstance(value, bool) or not (math.isfinite(value) and value > 0)):
        raise ValueError("input should be a finite number greater than 0")
    return value


def mode_name(value: Any) -> Any:
    """Normalize the name of a mode; return anything else unchanged.

    >>> mode_name("FIXED-PRED")
    'fixed_pred'
    """
    known = {canonical(mode): mode.value for mode in PCMode}
    return known.get(canonical(str(value)), value)


_NO_RELAXATION = ("loss_scale", "corrector", "optimizer", "tol", "stable", "light_cone", "energy_trace")
_UNUSED: dict[str, tuple[str, ...]] = {
    PCMode.STRICT: ("optimizer",),
    PCMode.FIXED_PRED: (*_NO_RELAXATION, "nudge", "beta"),
    PCMode.EXACT: (*_NO_RELAXATION, "nudge", "beta", "eta", "n", "fresh"),
    PCMode.INCREMENTAL: ("nudge", "beta", "fresh", "light_cone"),
    PCMode.ERROR: ("optimizer", "fresh", "light_cone"),
}


class PCConfig(Config):
    """Settings of predictive coding.

    >>> PCConfig(mode="fixed-pred", eta=0.5).mode
    'fixed_pred'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    compiled_for: ClassVar[dict[str, tuple[float, ...]]] = {"tol": (0,), "loss_scale": (1,)}

    eta: float | str | Callable[..., Any] = Field(
        0.1,
        description="step of one sweep, a number > 0 (usually below 1), or a schedule: a callable sweep -> step, "
        "or a string such as 'cosine_decay_schedule(0.2, 20)'",
    )
    n: int = Field(20, ge=1, le=1_000_000, description="sweeps over the layers")
    mode: Literal["strict", "fixed_pred", "exact", "incremental", "error"] = Field(
        "strict", description="how the errors are found; see PCMode"
    )
    loss_scale: float | Literal["per_sample"] = Field(
        1.0,
        description="factor > 0 on the loss while relaxing, divided out of the gradients again; per_sample is the "
        "batch size, for losses that are means over the batch",
    )
    nudge: Literal["clamped", "positive", "negative", "centered"] = Field(
        "clamped",
        description="strict and error: how the loss acts on the outputs. clamped pulls them with the whole loss, "
        "positive with a fraction beta of it, negative pushes them away by as much, centered averages positive and "
        "negative at twice the cost",
    )
    beta: float = Field(0.1, description="fraction of the way to the targets that a nudge goes, > 0; not for clamped")
    corrector: str | Transformation | None = Field(
        None,
        description="an optax transformation that moves the activities instead of eta times the gradient, "
        "such as 'sgd(0.1, momentum=0.5)'",
    )
    optimizer: str | Transformation = Field(
        "adam(1e-4)", description="incremental: the optax optimizer of the parameter step in every sweep"
    )
    tol: float = Field(
        0.0,
        ge=0,
        description="stop once the norm of the force, summed over activities, is below this; 0 for never",
    )
    fresh: bool = Field(False, description="gradients from the errors after the last move, not before it")
    stable: bool = Field(
        True,
        description="strict, incremental and error: take smaller steps where the energy is too curved",
    )
    light_cone: bool = Field(
        True, description="skip layers that a sweep cannot have reached yet; results do not change"
    )
    energy_trace: bool = Field(False, description="report the energy before every sweep and at the end")
    keep_activities: bool = Field(False, description="report the activities and errors of every layer")
    fuse: bool = Field(
        False,
        description="on layers, join those without parameters, such as pooling and flattening, to the layer before "
        "them, with one set of activities for all; otherwise each layer has its own",
    )
    remat: bool = Field(
        False, description="recompute layers instead of storing their intermediate values; saves memory"
    )

    @field_validator("eta", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return float(value)
        except ValueError:
            parse(value)
            return value

    @field_validator("eta", "loss_scale", "beta", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        return finite_and_positive(value)

    @field_validator("corrector", "optimizer")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, str):
            parse(value)
        return value

    @field_validator("mode", mode="before")
    @classmethod
    def _folded(cls, value: Any) -> Any:
        return mode_name(value)

    def unused(self) -> dict[str, str]:
        """The settings that the mode does not use, and those of the step beside a corrector."""
        by_mode = dict.fromkeys(_UNUSED[self.mode], f"in mode {self.mode}")
        if self.nudge == "clamped" and "beta" not in by_mode:
            by_mode["beta"] = "with nudge='clamped'"
        return by_mode | ({} if self.corrector is None else dict.fromkeys(("eta", "stable"), "beside a corrector"))

    @model_validator(mode="after")
    def _traces_have_a_fixed_length(self) -> Self:
        if self.tol and self.energy_trace:
            raise ValueError("energy_trace has a fixed length, so it needs tol=0")
        return self

    @field_serializer("eta", "corrector", "optimizer", when_used="json")
    def _as_text(self, value: Any) -> Any:
        return written(value)


# The energy keeps the loss's curvature, so a settled network tends to back-propagation with the loss's scale, and not
# with the nudge's.
_VARIANTS = (
    Variant(settings={"mode": "exact"}, claims=("exact",)),
    Variant(settings={"mode": "fixed_pred"}, claims=("local", "precise")),
    Variant(settings={"light_cone": False, "stable": False}, claims=("precise",)),  # compiles soon
    Variant(settings={"mode": "fixed_pred", "eta": 1.0, "n": 5}, claims=("exact",)),  # n above the number of layers
    Variant(settings={"mode": "fixed_pred", "eta": "exponential_decay(0.9, 1, 0.8)", "n": 5, "fresh": True}),
    Variant(settings={"eta": 0.3, "n": 200}, claims=("limit:loss_scale",)),
    Variant(settings={"eta": 0.3, "fresh": True, "loss_scale": "per_sample"}, claims=("local",)),
    Variant(settings={"nudge": "centered", "beta": 0.3, "n": 7}),
    Variant(settings={"mode": "error", "n": 200}, claims=("limit:loss_scale",)),
    Variant(settings={"mode": "error", "nudge": "negative", "beta": 0.3, "loss_scale": 2.0}, claims=("energy",)),
    Variant(
        settings={"mode": "incremental", "optimizer": "sgd(0.05, momentum=0.5)", "loss_scale": 3.0}, claims=("energy",)
    ),
)

pc = Plugin(
    AlgorithmSpec(
        name="pc",
        summary="Predictive coding: activities relax on local prediction errors, then each layer learns from its own.",
        config=PCConfig,
        needs="network",
        claims=("local", "energy", "stateful"),
        variants=_VARIANTS,
        known_failures={
            "repeated-batch": "as in the reference implementations, errors of a mean loss shrink with the batch beside "
            "those of the layers; loss_scale='per_sample' avoids that",
        },
        relaxes=Relaxes(trace="energy_trace", steps="n", size="eta", tol="tol"),
        definition="neurai_algorithms.predictive_coding.equations:definition",
        offers={
            "PC": "neurai_algorithms.predictive_coding.api:PC",
            "PCMode": "neurai_algorithms.predictive_coding.spec:PCMode",
        },
        references=cited(
            __name__,
            "whittington2017approximation",
            "bogacz2017tutorial",
            "millidge2022predictive",
            "rosenbaum2022relationship",
            "salvatori2024stable",
            "goemaere2025error",
        ),
    ),
    "neurai_algorithms.predictive_coding.rule:build",
)

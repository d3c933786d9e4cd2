"""Bidirectional predictive coding's name, settings and facts, without JAX; see `bidirectional`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator

from neurai_algorithms.predictive_coding.spec import PCMode, finite_and_positive, mode_name
from neurai_core.errors import SettingsError
from neurai_core.naming import canonical
from neurai_core.optax_texts import Transformation, parse, written
from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Relaxes, Variant

ALPHA_B = {PCMode.SWEIGHT_BISTRICT: 0.1, PCMode.BISTRICT: 0.01}
MANY = 64  # with more inputs than this, the default of alpha_b compensates for their number
WIDE = 16  # with more inputs, or activities of a map, than this, so does the default of precision


@dataclass(frozen=True)
class EtaTrace:
    """How the step of the states is corrected over the sweeps. ``EtaTrace()`` leaves it constant.

    Attributes:
        step: replaces the constant ``eta``: a number, a schedule ``sweep -> step``, or an optax
            transformation, which replaces the whole step. Strings name functions of optax.
        momentum: fraction of the last move that is repeated, 0 <= momentum < 1.
        curvature: divide each layer's step by the curvature of the energy there,
            ``(alpha_f (1 + |A_up|^2) + alpha_b (1 + |B_down|^2)) / (alpha_f + alpha_b)`` with spectral norms.

    Raises:
        SettingsError: a value is out of range, or a transformation is combined with ``momentum``.

    >>> EtaTrace(step="cosine_decay_schedule(0.2, 20)", curvature=True).momentum
    0.0
    """

    step: float | str | Callable[..., Any] | Transformation | None = None
    momentum: float = 0.0
    curvature: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise SettingsError(f"EtaTrace: momentum takes 0 <= momentum < 1 (got {self.momentum}).")
        if isinstance(self.step, int | float) and not (math.isfinite(self.step) and self.step > 0):
            raise SettingsError(f"EtaTrace: step takes a finite number > 0 (got {self.step}).")
        if isinstance(self.step, str):
            _readable(self.step)
        if self.momentum and isinstance(self.step, Transformation):
            raise SettingsError(
                "EtaTrace: a transformation is the whole step, so momentum does not apply to it.",
                hint="Give the momentum to the transformation, such as optax.sgd(0.1, momentum=0.5).",
            )


def _readable(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise SettingsError(
            f"EtaTrace: {error}.", hint="Such as 'adam(0.05)' or 'cosine_decay_schedule(0.2, 20)'."
        ) from error


def _from_text(text: str) -> EtaTrace:
    """``constant``, ``curvature``, ``momentum(0.5)``, or what `EtaTrace` takes as ``step``."""
    if canonical(text) in ("constant", "curvature"):
        return EtaTrace(curvature=canonical(text) == "curvature")
    call = parse(text)
    if call is not None and call.name == "momentum" and len(call.args) == 1 and not call.kwargs:
        return EtaTrace(momentum=call.args[0])
    return EtaTrace(step=text)


class BiPCConfig(Config):
    """Settings of bidirectional predictive coding.

    >>> BiPCConfig(eta_trace="momentum(0.5)").eta_trace.momentum
    0.5
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    compiled_for: ClassVar[dict[str, tuple[float, ...]]] = {
        "alpha_f": (0, 1),
        "alpha_b": (0, 1),
        "precision": (1,),
        "loss_scale": (1,),
    }

    loss_b: str | Callable[..., Any] = Field(
        "sum_squared_error", description="loss at the input end, a function of (downward prediction, inputs)"
    )
    eta: float = Field(0.1, gt=0, description="step of one sweep, usually below 1")
    n: int = Field(20, ge=1, le=1_000_000, description="sweeps over the layers")
    eta_trace: EtaTrace | None = Field(
        None,
        description="how the step is corrected: 'constant', 'curvature', 'momentum(0.5)', a schedule such as "
        "'cosine_decay_schedule(0.2, 20)', or an optax transformation such as 'adam(0.05)'",
    )
    mode: Literal["sweight_bistrict", "bistrict"] = Field(
        "sweight_bistrict", description="one set of weights for both directions, or separate ones"
    )
    alpha_f: float = Field(1.0, ge=0, description="weight of the upward predictions in the energy")
    alpha_b: float | None = Field(
        None,
        ge=0,
        description="weight of the downward predictions; by default 0.1 with shared weights, else 0.01, and "
        "proportionally less with more than 64 inputs",
    )
    precision: float | None = Field(
        None,
        gt=0,
        description="weight of the upward predictions of hidden layers relative to the losses; by default 1, and with "
        "the default alpha_b proportionally more if the inputs or a hidden map exceed 16 numbers",
    )
    loss_scale: float | Literal["per_sample"] = Field(
        1.0,
        description="factor > 0 on both losses while relaxing, divided out of the gradients again; per_sample is the "
        "batch size, for losses that are means over the batch",
    )
    fresh: bool = Field(False, description="gradients from the errors after the last move, not before it")
    stable: bool = Field(True, description="without eta_trace: take smaller steps where the energy is too curved")
    energy_trace: bool = Field(False, description="report the energy before every sweep and at the end")

    @field_validator("eta_trace", mode="before")
    @classmethod
    def _trace(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _from_text(value)
        return value if value is None or isinstance(value, EtaTrace | dict) else EtaTrace(step=value)

    @field_validator("loss_scale", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        return finite_and_positive(value)

    @field_validator("mode", mode="before")
    @classmethod
    def _folded(cls, value: Any) -> Any:
        return mode_name(value)

    def unused(self) -> dict[str, str]:
        """``stable`` beside an ``eta_trace``, and ``eta`` where that has a step of its own."""
        if self.eta_trace is None:
            return {}
        own = self.eta_trace.step is not None
        return {"stable": "beside an eta_trace"} | (
            {"eta": "beside an eta_trace with a step of its own"} if own else {}
        )

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> Self:
        if self.alpha_f == 0 and self.alpha_b == 0:
            raise ValueError("alpha_f and alpha_b cannot both be 0")
        return self

    @field_serializer("loss_b", when_used="json")
    def _loss_text(self, value: Any) -> Any:
        return written(value)

    @field_serializer("eta_trace", when_used="json")
    def _trace_text(self, value: EtaTrace | None) -> Any:
        if value is None:
            return None
        return {"step": written(value.step), "momentum": value.momentum, "curvature": value.curvature}

    @property
    def shared(self) -> bool:
        """Whether both ways have one set of weights."""
        return self.mode == PCMode.SWEIGHT_BISTRICT

    @property
    def weights(self) -> tuple[Any, Any]:
        """``(alpha_f, alpha_b)``, the default of the mode filled in."""
        return self.alpha_f, ALPHA_B[PCMode(self.mode)] if self.alpha_b is None else self.alpha_b

    def for_inputs(self, count: int, largest: int = 0) -> Self:
        """The settings with ``alpha_b`` and ``precision`` filled in.

        Args:
            count: number of inputs.
            largest: largest number of activities in any hidden map, such as that of a convolution.

        >>> full = [BiPCConfig().for_inputs(*counts) for counts in ((4,), (64,), (640,), (64, 512))]
        >>> [(config.alpha_b, config.precision) for config in full]
        [(0.1, 1.0), (0.1, 4.0), (0.01, 40.0), (0.1, 32.0)]
        """
        own = self.alpha_b is not None
        alpha_b = self.weights[1] / (1.0 if own else max(1.0, count / MANY))
        usual = 1.0 if own else max(1.0, max(count, largest) / WIDE)
        return self.model_copy(
            update={"alpha_b": alpha_b, "precision": usual if self.precision is None else self.precision}
        )


bipc = Plugin(
    AlgorithmSpec(
        name="bipc",
        aliases=("bpc",),
        summary="Bidirectional predictive coding: layers predict both neighbors, so one network classifies and "
        "generates.",
        config=BiPCConfig,
        needs="layered",
        claims=("local", "energy", "generative"),
        variants=(
            Variant(settings={"mode": "bistrict"}, claims=("local", "energy", "generative")),
            Variant(
                settings={
                    "mode": "bistrict",
                    "loss_b": "mse",
                    "alpha_f": 0.7,
                    "alpha_b": 0.3,
                    "precision": 2.0,
                    "loss_scale": "per_sample",
                    "fresh": True,
                }
            ),
        ),
        relaxes=Relaxes(trace="energy_trace", steps="n", size="eta"),
        definition="neurai_algorithms.bidirectional.equations:definition",
        defaults={
            "loss": "sum_squared_error",
            "model": "mlp:128,64,tanh",
            "lr": 1e-3,
            "epochs": 60,
            "batch_size": 32,
        },
        offers={
            "BiPC": "neurai_algorithms.bidirectional.api:BiPC",
            "EtaTrace": "neurai_algorithms.bidirectional.spec:EtaTrace",
        },
        references=cited(__name__, "qiu2025deep", "oliviers2026bidirectional"),
    ),
    "neurai_algorithms.bidirectional.rule:build",
)

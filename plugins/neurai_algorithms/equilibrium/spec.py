"""Settings and description of equilibrium propagation, free of JAX."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from neurai_core.naming import did_you_mean
from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Relaxes, Variant


class EPMode(StrEnum):
    """How phases are combined into a gradient estimate. b is ``beta``, g(b) the gradient of the energy nudged by b.

    Attributes:
        TWO_PHASE: [g(b) - g(0)] / b, either sign of b; bias O(b), 2 phases.
        TWO_PHASE_MATCHED: the same, with g(0) relaxed on for as many steps as g(b); bias O(b), 3 phases.
        RANDOM_SIGN: TWO_PHASE with a random sign of b for every batch; mean bias O(b^2), 2 phases.
        SYMMETRIC: [g(b) - g(-b)] / 2b; bias O(b^2), 3 phases.
        RICHARDSON: [4 D(b/2) - D(b)] / 3 with D symmetric; bias O(b^4), 5 phases.
        HOLOMORPHIC: ``n_points`` nudges on a circle of radius b in the complex plane; bias O(b^n_points),
            2 + n_points // 2 phases.
        CONTINUAL: the weights move at every nudged step; bias O(b) + O(learning rate), 2 phases.
        COUPLED: coupled learning, the output clamped at ``o -+ b dC/do``; 3 phases. Not a gradient of the loss.
        COUPLED_ONE_SIDED: the same with the output clamped at ``o`` and at ``o - b dC/do``, either sign of b; 3 phases.
        CONTRASTIVE: contrastive learning, the output clamped at ``o`` and at ``o - dC/do``; 3 phases. Not a
            gradient of the loss.

    >>> EPMode("symmetric") is EPMode.SYMMETRIC
    True
    """

    TWO_PHASE = "two_phase"
    TWO_PHASE_MATCHED = "two_phase_matched"
    RANDOM_SIGN = "random_sign"
    SYMMETRIC = "symmetric"
    RICHARDSON = "richardson"
    HOLOMORPHIC = "holomorphic"
    CONTINUAL = "continual"
    COUPLED = "coupled"
    COUPLED_ONE_SIDED = "coupled_one_sided"
    CONTRASTIVE = "contrastive"


CLAMPED = frozenset({EPMode.COUPLED, EPMode.COUPLED_ONE_SIDED, EPMode.CONTRASTIVE})  # the output is held, not nudged
ONE_SIDED = frozenset({EPMode.TWO_PHASE, EPMode.RANDOM_SIGN, EPMode.CONTINUAL})  # free phase is the reference
ENERGY_NAMES = ("gaussian", "hopfield")


class EPConfig(Config):
    """Settings of equilibrium propagation."""

    compiled_for: ClassVar[dict[str, tuple[float, ...]]] = {"tol": (0,)}
    formerly: ClassVar[dict[str, str]] = {"linearised": "linearized"}

    beta: float = Field(1.0, description="strength of the nudge, not 0; negative ones nudge away from the target")
    dt: float = Field(0.1, gt=0, description="step of a relaxation, in units of tau")
    n_relax: int = Field(20, ge=1, le=1_000_000, description="steps of a phase, the most when tol is above 0")
    tau: float = Field(1.0, gt=0, description="time constant of the activities; only dt / tau matters")
    tol: float = Field(
        0.0,
        ge=0,
        description="a phase ends once the norm of the force, summed over activities, is below this; 0 for never",
    )
    mode: EPMode = Field(EPMode.TWO_PHASE, description="how phases are combined into a gradient")
    activation: str | None = Field(
        None, description="rho by name: hopfield uses it in all layers, gaussian in hidden ones; none keeps the model's"
    )
    energy: str = Field(
        "gaussian", description="gaussian, on any network; on layers also hopfield, or module:attribute of an Energy"
    )
    init: Literal["zeros", "normal", "feedforward", "persistent"] | None = Field(
        None,
        description="where a free phase starts; none: gaussian feedforward, hopfield zeros",
    )
    order: Literal["synchronous", "even_odd"] = Field(
        "synchronous", description="all layers at once, or every other layer in turn"
    )
    coordinates: Literal["activities", "errors"] = Field(
        "activities",
        description="what moves: activities, or their errors, with the same equilibrium; errors reach all layers in "
        "every step, each of which is one back-propagation",
    )
    n_points: int = Field(2, ge=1, le=64, description="number of nudges of mode holomorphic")
    linearized: bool = Field(False, description="contract the mixed second derivative with the change in activities")
    n_nudged: int | None = Field(None, ge=1, le=1_000_000, description="steps of a nudged phase; none takes n_relax")
    check_every: int = Field(1, ge=1, le=1_000_000, description="compare the force with tol every this many steps")
    stable: bool = Field(
        True, description="take a smaller step than dt where the energy is too curved for it; step_scale reports it"
    )
    fuse: bool = Field(
        False,
        description="on layers, join those without parameters, such as pooling and flattening, to the layer before "
        "them, with one set of activities for all; otherwise they belong to the layer after them",
    )
    trace: bool = Field(False, description="report energy and force of every step; tol is then not used")

    @field_validator("beta")
    @classmethod
    def _beta_is_not_zero(cls, beta: float) -> float:
        if beta == 0:
            raise ValueError("beta is 0, and the estimate divides by it; use for example 0.5 with mode symmetric")
        return beta

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_by_name(cls, mode: Any) -> Any:
        if isinstance(mode, EPMode) or not isinstance(mode, str):
            return mode
        folded = mode.strip().lower().replace("-", "_")
        if folded not in set(EPMode):
            nearest = did_you_mean(folded, [mode.value for mode in EPMode])
            raise ValueError(f"no mode is named {mode!r}.{nearest} Modes: {', '.join(EPMode)}")
        return EPMode(folded)

    @field_validator("energy")
    @classmethod
    def _energy_by_name(cls, energy: str) -> str:
        if energy not in ENERGY_NAMES and not re.fullmatch(r"[\w.]+:[\w.]+", energy):
            known = ", ".join(ENERGY_NAMES)
            raise ValueError(f"no energy is named {energy!r}.{did_you_mean(energy, ENERGY_NAMES)} Energies: {known}")
        return energy

    def unused(self) -> dict[str, str]:
        """``n_points``, which only mode holomorphic uses."""
        return {} if self.mode == EPMode.HOLOMORPHIC else {"n_points": f"in mode {self.mode}"}

    @model_validator(mode="after")
    def _continual_updates_by_itself(self) -> Self:
        if self.linearized and self.mode == EPMode.CONTINUAL:
            raise ValueError("linearized needs two settled states, and mode continual updates at every step")
        if self.init == "persistent" and self.mode == EPMode.CONTINUAL:
            raise ValueError(
                "init persistent and mode continual cannot be combined: weights move while activities relax"
            )
        return self


# Settings that train, measured by benchmarks/ep_learning.py; ``loss`` is not a setting of the rule.
PRESETS: dict[str, dict[str, Any]] = {
    "gaussian": {"loss": "cross_entropy"},
    "gaussian-symmetric": {"loss": "cross_entropy", "mode": EPMode.SYMMETRIC, "beta": 0.1},
    "hopfield-digits": {
        "loss": "squared_error",
        "energy": "hopfield",
        "activation": "sigmoid",
        "dt": 0.5,
        "beta": 0.5,
    },
    "hopfield-symmetric": {
        "loss": "cross_entropy",
        "energy": "hopfield",
        "activation": "sigmoid",
        "mode": EPMode.SYMMETRIC,
        "dt": 0.5,
        "beta": 0.5,
    },
}

# Without its many steps, a phase ends before it has settled, and the bias in beta is not all there is.
_SETTLED: dict[str, Any] = {"n_relax": 2000}
_VARIANTS = (
    Variant(settings=_SETTLED, claims=("limit:beta",)),
    Variant(settings=_SETTLED | {"mode": "symmetric"}, claims=("limit:beta:2",)),
    Variant(settings=_SETTLED | {"mode": "richardson"}, claims=("limit:beta:4",)),
    Variant(settings=_SETTLED | {"mode": "holomorphic", "n_points": 3}, claims=("limit:beta:3",)),
    Variant(
        settings={"energy": "hopfield", "activation": "sigmoid", "dt": 0.5, "beta": 0.5}, claims=("local", "energy")
    ),
    Variant(
        settings={
            "energy": "hopfield",
            "mode": "symmetric",
            "beta": 0.3,
            "init": "feedforward",
            "tau": 2.0,
            "n_nudged": 5,
        }
    ),
    Variant(settings={"mode": "two_phase_matched", "activation": "sigmoid", "init": "zeros", "beta": -0.5}),
)

ep = Plugin(
    AlgorithmSpec(
        name="ep",
        summary="Equilibrium propagation: contrasts activities at rest with activities nudged toward the target.",
        config=EPConfig,
        needs="network",
        claims=("local", "energy"),
        variants=_VARIANTS,
        relaxes=Relaxes(trace="trace", steps="n_relax", size="dt", tol="tol"),
        definition="neurai_algorithms.equilibrium.equations:definition",
        offers={
            "EP": "neurai_algorithms.equilibrium.api:EP",
            "EPMode": "neurai_algorithms.equilibrium.spec:EPMode",
        },
        references=cited(__name__, "scellier2017equilibrium", "laborieux2021scaling", "laborieux2022holomorphic"),
    ),
    "neurai_algorithms.equilibrium.rule:build",
)

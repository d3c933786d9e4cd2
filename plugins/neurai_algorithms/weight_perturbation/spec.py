"""The name, settings and facts of weight perturbation, without JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant

DISTRIBUTION = "of the numbers of a perturbation: standard normal, or -1 and 1 with equal chances"


class WeightPerturbationConfig(Config):
    """Settings of weight perturbation."""

    sigma: float = Field(0.01, gt=0, le=1, description="standard deviation of the perturbation of every weight")
    samples: int = Field(
        32, ge=1, le=10_000, description="perturbations per batch, over which the estimate is averaged"
    )
    distribution: Literal["normal", "signs"] = Field("normal", description=DISTRIBUTION)
    two_sided: bool = Field(
        True, description="whether a perturbation is also tried with the opposite sign: a bias of sigma^2, not sigma"
    )


weight_perturbation = Plugin(
    AlgorithmSpec(
        name="weight-perturbation",
        summary="Weight perturbation: how the loss changes with random changes of all weights, times the changes.",
        config=WeightPerturbationConfig,
        claims=("unbiased", "stochastic"),
        variants=(Variant(settings={"two_sided": False, "distribution": "signs"}, claims=("stochastic",)),),
        defaults={"model": "mlp:32,relu", "lr": 0.01},
        definition="neurai_algorithms.weight_perturbation.equations:definition",
        references=cited(__name__, "werfel2005learning", "spall1992multivariate"),
    ),
    "neurai_algorithms.weight_perturbation.rule:build",
)

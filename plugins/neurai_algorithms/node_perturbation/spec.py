"""The name, settings and facts of node perturbation, without JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant

DISTRIBUTION = "of the numbers of the noise: standard normal, or -1 and 1 with equal chances"


class NodePerturbationConfig(Config):
    """Settings of node perturbation."""

    sigma: float = Field(0.01, gt=0, le=1, description="standard deviation of the noise in the input of every node")
    samples: int = Field(4, ge=1, le=10_000, description="noisy passes per batch, over which the estimate is averaged")
    distribution: Literal["normal", "signs"] = Field("normal", description=DISTRIBUTION)
    two_sided: bool = Field(
        True, description="whether noise is also tried with the opposite sign: a bias of sigma^2, not sigma"
    )


node_perturbation = Plugin(
    AlgorithmSpec(
        name="node-perturbation",
        summary="Node perturbation: how the loss of an example changes with noise in all units, times the noise.",
        config=NodePerturbationConfig,
        needs="layered",
        claims=("unbiased", "stochastic"),
        variants=(Variant(settings={"two_sided": False, "distribution": "signs"}, claims=("stochastic",)),),
        defaults={"model": "mlp:64,relu", "lr": 0.003},
        definition="neurai_algorithms.node_perturbation.equations:definition",
        references=cited(__name__, "werfel2005learning", "dalm2023effective"),
    ),
    "neurai_algorithms.node_perturbation.rule:build",
)

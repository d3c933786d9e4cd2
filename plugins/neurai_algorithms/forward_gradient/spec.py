"""The name, settings and facts of forward gradients, without JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant

DISTRIBUTION = "of the numbers of a direction: standard normal, or -1 and 1 with equal chances"


class ForwardGradientConfig(Config):
    """Settings of forward gradients."""

    samples: int = Field(32, ge=1, le=10_000, description="directions per batch, over which the gradient is averaged")
    distribution: Literal["normal", "signs"] = Field("normal", description=DISTRIBUTION)


forward_gradient = Plugin(
    AlgorithmSpec(
        name="forward-gradient",
        summary="Forward gradients: the slope of the loss along random directions, times the direction.",
        config=ForwardGradientConfig,
        claims=("unbiased",),
        variants=(Variant(settings={"distribution": "signs"}, claims=("unbiased",)),),
        defaults={"model": "mlp:32,relu", "lr": 0.01},
        definition="neurai_algorithms.forward_gradient.equations:definition",
        references=cited(__name__, "baydin2022gradients"),
    ),
    "neurai_algorithms.forward_gradient.rule:build",
)

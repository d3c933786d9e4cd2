"""The name, settings and facts of forward gradients, without JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class ForwardGradientConfig(Config):
    """Settings of forward gradients."""

    samples: int = Field(32, ge=1, le=10_000, description="directions per batch, over which the gradient is averaged")


forward_gradient = Plugin(
    AlgorithmSpec(
        name="forward-gradient",
        summary="Forward gradients: the slope of the loss along random directions, times the direction.",
        config=ForwardGradientConfig,
        claims=("unbiased",),
        defaults={"model": "mlp:32,relu", "lr": 0.01},
        definition="neurai_algorithms.forward_gradient.equations:definition",
        references=cited(__name__, "baydin2022gradients"),
    ),
    "neurai_algorithms.forward_gradient.rule:build",
)

"""Three rules in light words; each has its mathematics in a file of its own."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference


class ForwardForwardConfig(Config):
    """Settings of Forward-Forward."""

    threshold: float = Field(2.0, gt=0, description="theta: goodness from which on an example counts as positive")
    strength: float = Field(1.0, gt=0, description="size of the entries with which a label marks the inputs")


class PEPITAConfig(Config):
    """Settings of PEPITA."""

    scale: float = Field(
        0.05, gt=0, description="spread of the projection F of the error, in units of sqrt(6 / number of inputs)"
    )


class ForwardGradientConfig(Config):
    """Settings of forward gradients."""

    samples: int = Field(32, ge=1, le=10_000, description="directions per batch, over which the gradient is averaged")


forward_forward = Plugin(
    AlgorithmSpec(
        name="forward-forward",
        summary="Forward-Forward: layers learn a high goodness for true labels and a low one for false ones.",
        config=ForwardForwardConfig,
        needs="layered",
        claims=("local", "stateful", "stochastic"),
        known_failures={
            "learns": "it writes the label over the first inputs, and the problem of the check has only four",
            "differentiable-numbers": "no derivative enters a layer, so none reaches the marks",
        },
        own_loss="goodness loss",
        no_alignment="it trains the goodness of layers that see the label, and never uses the network feed-forward",
        defaults={"model": "mlp:256,128,relu", "lr": 0.005, "epochs": 60},
        definition="neurai_forward_only.equations:forward_forward",
        references=(
            Reference(
                title="The Forward-Forward Algorithm: Some Preliminary Investigations",
                authors="Hinton, G.",
                year=2022,
                arxiv="2212.13345",
            ),
        ),
    ),
    "neurai_forward_only.forward_forward_rule:build",
)

pepita = Plugin(
    AlgorithmSpec(
        name="pepita",
        summary="PEPITA: a second forward pass, with the error added to the inputs, stands for the backward pass.",
        config=PEPITAConfig,
        needs="layered",
        claims=("local", "stateful"),
        definition="neurai_forward_only.equations:pepita",
        references=(
            Reference(
                title="Error-driven Input Modulation: Solving the Credit Assignment Problem without a Backward Pass",
                authors="Dellaferrera, G. and Kreiman, G.",
                year=2022,
                arxiv="2201.11665",
            ),
        ),
    ),
    "neurai_forward_only.pepita_rule:build",
)

forward_gradient = Plugin(
    AlgorithmSpec(
        name="forward-gradient",
        summary="Forward gradients: the slope of the loss along random directions, times the direction.",
        config=ForwardGradientConfig,
        claims=("unbiased",),
        defaults={"model": "mlp:32,relu", "lr": 0.01},
        definition="neurai_forward_only.equations:forward_gradient",
        references=(
            Reference(
                title="Gradients without Backpropagation",
                authors="Baydin, A. G. and Pearlmutter, B. A. and Syme, D. and Wood, F. and Torr, P.",
                year=2022,
                arxiv="2202.08587",
            ),
        ),
    ),
    "neurai_forward_only.forward_gradient_rule:build",
)

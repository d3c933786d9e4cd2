"""Forward-Forward in light words; its mathematics is in a file of its own."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference


class ForwardForwardConfig(Config):
    """Settings of Forward-Forward."""

    threshold: float = Field(2.0, gt=0, description="theta: goodness from which on an example counts as positive")
    strength: float = Field(1.0, gt=0, description="size of the entries with which a label marks the inputs")


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

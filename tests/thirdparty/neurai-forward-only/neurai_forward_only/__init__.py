"""SymBa in light words; its mathematics is in a file of its own."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference


class SymBaConfig(Config):
    """Settings of SymBa."""

    alpha: float = Field(4.0, gt=0, description="steepness of the loss in the difference of goodness")
    strength: float = Field(1.0, gt=0, description="size of the entries of the pattern with which a class is shown")


symba = Plugin(
    AlgorithmSpec(
        name="symba",
        summary="SymBa: layers learn a higher goodness for the pattern of the true class than for that of another.",
        config=SymBaConfig,
        needs="layered",
        claims=("local", "stateful", "stochastic"),
        own_loss="goodness loss",
        no_alignment="it trains the goodness of layers that see the class, and never uses the network feed-forward",
        defaults={"model": "mlp:128,relu", "lr": 0.005, "epochs": 30},
        definition="neurai_forward_only.equations:symba",
        references=(
            Reference(
                title="SymBa: Symmetric Backpropagation-Free Contrastive Learning with Forward-Forward Algorithm for "
                "Optimizing Convergence",
                authors="Lee, H.-C. and Song, J.",
                year=2023,
                arxiv="2303.08418",
            ),
        ),
    ),
    "neurai_forward_only.symba_rule:build",
)

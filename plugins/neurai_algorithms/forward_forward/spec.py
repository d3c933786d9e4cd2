"""The name, settings and facts of Forward-Forward, without JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class ForwardForwardConfig(Config):
    """Settings of Forward-Forward."""

    threshold: float = Field(
        2.0,
        gt=0,
        description="theta: goodness, a mean of squared activities, from which on an example counts as positive",
    )
    strength: float = Field(1.0, gt=0, description="activity of the input unit that stands for a label")


forward_forward = Plugin(
    AlgorithmSpec(
        name="forward-forward",
        summary="Forward-Forward: layers learn a high goodness for true labels and a low one for false ones.",
        config=ForwardForwardConfig,
        needs="layered",
        claims=("local", "stochastic"),
        own_loss="goodness loss",
        no_alignment="it trains the goodness of layers that see the label, and never uses the network feed-forward",
        defaults={"model": "mlp:256,128,relu", "lr": 0.005, "epochs": 60},
        definition="neurai_algorithms.forward_forward.equations:definition",
        references=cited(__name__, "hinton2022forward"),
    ),
    "neurai_algorithms.forward_forward.rule:build",
)

"""The name, settings and facts of the rule of Kolen and Pollack, without JAX; its mathematics is in `rule`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class KolenPollackConfig(Config):
    """Settings of the rule of Kolen and Pollack."""

    scale: float = Field(
        1.0, gt=0, description="spread of the initial feedback weights, in units of that of the forward weights"
    )


kolen_pollack = Plugin(
    AlgorithmSpec(
        name="kolen-pollack",
        summary="Kolen-Pollack: feedback weights learn as forward weights do, and weight decay makes them equal.",
        config=KolenPollackConfig,
        needs="network",
        claims=("local", "precise"),
        # Without decay, feedback weights would not come closer to forward weights.
        defaults={"optimizer": "adamw", "optimizer.weight_decay": 1.0, "lr": 5e-3},
        definition="neurai_algorithms.kolen_pollack.equations:definition",
        references=cited(__name__, "kolen1994backpropagation", "akrout2019deep"),
    ),
    "neurai_algorithms.kolen_pollack.rule:build",
)

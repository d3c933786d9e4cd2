"""The name, settings and facts of STDP, without JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant


class STDPConfig(Config):
    """Settings of STDP."""

    a_plus: float = Field(0.1, gt=0, description="largest growth of a weight by one pair of spikes, input first")
    a_minus: float = Field(0.1, gt=0, description="largest loss of a weight by one pair of spikes, output first")
    tau_plus: float = Field(5.0, gt=0, description="time constant of growth, in steps")
    tau_minus: float = Field(5.0, gt=0, description="time constant of loss, in steps")
    bounds: Literal["soft", "none"] = Field(
        "soft",
        description="soft: growth in proportion to the distance from w_max, loss in proportion to the weight; none: "
        "both independent of the weight",
    )
    w_max: float | None = Field(
        None, gt=0, description="largest weight, with soft bounds; by default, 3.2 divided by the inputs of the stage"
    )

    def unused(self) -> dict[str, str]:
        """The bound, if there is none."""
        return {} if self.bounds == "soft" else {"w_max": "with bounds none"}


stdp = Plugin(
    AlgorithmSpec(
        name="stdp",
        summary="STDP: weights change with the time between spikes before and behind a synapse; without labels.",
        config=STDPConfig,
        needs="callable",
        claims=("spiking", "unsupervised"),
        variants=(Variant(settings={"bounds": "none"}, claims=("local", "spiking", "unsupervised")),),
        defaults={
            "model": "snn:100,rate",
            "steps": 25,
            "surrogate": "superspike",
            "optimizer": "sgd",
            "lr": 0.005,
            "epochs": 5,
        },
        own_loss="distance from balance",
        no_alignment="it learns from inputs alone, and back-propagation would need a loss of targets",
        definition="neurai_algorithms.stdp.equations:definition",
        references=cited(__name__, "morrison2008phenomenological", "song2000competitive", "vanrossum2000stable"),
    ),
    "neurai_algorithms.stdp.rule:build",
)

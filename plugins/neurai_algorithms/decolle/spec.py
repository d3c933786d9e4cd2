"""The name, settings and facts of DECOLLE, without JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class DecolleConfig(Config):
    """Settings of DECOLLE."""

    scale: float = Field(
        1.0, gt=0, description="standard deviation of the weights of local readouts, relative to 1/sqrt(neurons)"
    )


decolle = Plugin(
    AlgorithmSpec(
        name="decolle",
        summary="DECOLLE: every stage learns at every step from a random local readout; for spiking networks.",
        config=DecolleConfig,
        needs="callable",
        claims=("local", "spiking", "stateful"),
        defaults={"model": "snn:128", "steps": 25, "surrogate": "superspike", "surrogate.alpha": 10.0, "lr": 1e-2},
        definition="neurai_algorithms.decolle.equations:definition",
        references=cited(__name__, "kaiser2020synaptic"),
    ),
    "neurai_algorithms.decolle.rule:build",
)

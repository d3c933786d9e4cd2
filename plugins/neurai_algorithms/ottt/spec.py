"""The spec of online training through time, without JAX."""

from __future__ import annotations

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class OTTTConfig(Config):
    """Online training through time has no settings."""


ottt = Plugin(
    AlgorithmSpec(
        name="ottt",
        summary="Online training through time: presynaptic traces times the gradient of each step; spiking networks.",
        config=OTTTConfig,
        needs="callable",
        claims=("spiking",),
        defaults={"model": "snn:128", "steps": 25, "surrogate": "superspike", "surrogate.alpha": 30.0, "lr": 5e-3},
        definition="neurai_algorithms.ottt.equations:definition",
        references=cited(__name__, "xiao2022online"),
    ),
    "neurai_algorithms.ottt.rule:build",
)

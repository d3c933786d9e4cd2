"""The name, settings and facts of e-prop, without JAX; its mathematics is in `eprop`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant


class EPropConfig(Config):
    """Settings of e-prop."""

    feedback: Literal["symmetric", "random"] = Field(
        "symmetric",
        description="weights that carry the errors back: symmetric, those of the readout, and of the stages between; "
        "random, from the readout to every stage, drawn once and kept",
    )
    direction: Literal["backward", "forward"] = Field(
        "backward",
        description="in which direction of time eligibility traces are summed: backward, by one matrix product for "
        "the weights of a stage, in memory that grows with time as that of bp does; forward, with a trace for every "
        "synapse and example, in memory that does not",
    )


eprop = Plugin(
    AlgorithmSpec(
        name="eprop",
        summary="E-prop: eligibility traces of single neurons, times a learning signal; for spiking networks.",
        config=EPropConfig,
        needs="callable",
        claims=("spiking",),  # not local: the errors of lower stages pass through all stages above
        variants=(
            Variant(settings={"feedback": "random"}, claims=("local", "spiking", "stateful")),
            Variant(settings={"direction": "forward"}, claims=("spiking",)),
        ),
        defaults={"model": "snn:128", "steps": 25, "surrogate": "superspike", "surrogate.alpha": 10.0},
        definition="neurai_algorithms.eprop.equations:definition",
        offers={"EProp": "neurai_algorithms.eprop.api:EProp"},
        references=cited(__name__, "bellec2020solution", "bohnstingl2022online"),
    ),
    "neurai_algorithms.eprop.rule:build",
)

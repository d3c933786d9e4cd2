"""The name, settings and facts of PEPITA, without JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class PEPITAConfig(Config):
    """Settings of PEPITA."""

    scale: float = Field(
        0.05, gt=0, description="spread of the projection F of the error, in units of sqrt(6 / number of inputs)"
    )


pepita = Plugin(
    AlgorithmSpec(
        name="pepita",
        summary="PEPITA: a second forward pass, with the error added to the inputs, stands for the backward pass.",
        config=PEPITAConfig,
        needs="layered",
        claims=("local", "stateful"),
        definition="neurai_algorithms.pepita.equations:definition",
        references=cited(__name__, "dellaferrera2022error"),
    ),
    "neurai_algorithms.pepita.rule:build",
)

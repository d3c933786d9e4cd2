"""The name, settings and facts of direct feedback alignment, without JAX; its mathematics is in `rule`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class DFAConfig(Config):
    """Settings of direct feedback alignment."""

    scale: float = Field(
        1.0, gt=0, description="spread of the feedback weights, in units of 1/sqrt(outputs of the network)"
    )


dfa = Plugin(
    AlgorithmSpec(
        name="dfa",
        summary="Direct feedback alignment: the error of the outputs goes to every layer through fixed random weights.",
        config=DFAConfig,
        needs="layered",
        claims=("local", "stateful"),
        definition="neurai_algorithms.direct_feedback.equations:definition",
        references=cited(__name__, "nokland2016direct"),
    ),
    "neurai_algorithms.direct_feedback.rule:build",
)

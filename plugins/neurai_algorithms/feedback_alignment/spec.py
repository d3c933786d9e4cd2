"""The name, settings and facts of feedback alignment, without JAX; its mathematics is in `rule`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class FAConfig(Config):
    """Settings of feedback alignment."""

    scale: float = Field(
        1.0, gt=0, description="spread of the feedback weights, in units of that of the initial forward weights"
    )


fa = Plugin(
    AlgorithmSpec(
        name="fa",
        summary="Feedback alignment: errors travel back through fixed random weights, layer by layer.",
        config=FAConfig,
        needs="network",
        claims=("local", "stateful"),
        definition="neurai_algorithms.feedback_alignment.equations:definition",
        references=cited(__name__, "lillicrap2016random"),
    ),
    "neurai_algorithms.feedback_alignment.rule:build",
)

"""The settings and the spec of SoftHebb."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class SoftHebbConfig(Config):
    """Settings of SoftHebb."""

    temperature: float = Field(
        1.0,
        gt=0,
        description="T of the competition, in units of 1/sqrt(D) for D inputs, the spread of u for a random w of "
        "length 1; the smaller, the closer to a single winner per input",
    )


softhebb = Plugin(
    AlgorithmSpec(
        name="softhebb",
        summary="SoftHebb: units compete softly and learn the inputs that they win; without labels.",
        config=SoftHebbConfig,
        needs="layered",
        claims=("local", "unsupervised"),
        defaults={"model": "mlp:256", "optimizer": "sgd", "lr": 0.3},
        own_loss="surprise",
        no_alignment="it learns from inputs alone, and back-propagation would need a loss of targets",
        definition="neurai_algorithms.softhebb.equations:definition",
        references=cited(__name__, "moraitis2022softhebb", "journe2023hebbian"),
    ),
    "neurai_algorithms.softhebb.rule:build",
)

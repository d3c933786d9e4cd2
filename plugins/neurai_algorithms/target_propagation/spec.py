"""The name, settings and facts of difference target propagation, without JAX; its mathematics is in `rule`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class DTPConfig(Config):
    """Settings of difference target propagation."""

    step: float = Field(0.1, gt=0, description="step down the loss of an example that gives the target of its outputs")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise with which inverses learn; 0 for none")


dtp = Plugin(
    AlgorithmSpec(
        name="dtp",
        summary="Difference target propagation: learned inverses of the layers carry targets down.",
        config=DTPConfig,
        needs="layered",
        claims=("local", "stochastic"),
        defaults={"model": "mlp:256,128,tanh", "lr": 5e-3},
        definition="neurai_algorithms.target_propagation.equations:definition",
        references=cited(__name__, "lee2015difference", "meulemans2020theoretical"),
    ),
    "neurai_algorithms.target_propagation.rule:build",
)

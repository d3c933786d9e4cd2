"""Settings and spec of `stochasticescape`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class StochasticEscapeConfig(Config):
    """Settings of `stochasticescape`."""

    alpha: float = Field(
        4.0, gt=0, description="slope of the logistic function, per unit of u: 1/alpha is the scale of the noise"
    )
    spiking: Spiking = True


stochasticescape = Plugin(
    SurrogateSpec(
        name="stochasticescape",
        summary="StochasticEscape: spikes drawn with the logistic probability, whose derivative is the surrogate.",
        config=StochasticEscapeConfig,
        claims=("unimodal", "unit-area", "drawn"),
        derivative=r"\alpha \sigma(\alpha u) \sigma(-\alpha u)",
        primitive=r"\sigma(\alpha u)",
        width="alpha",
        area="1",
        offers={"StochasticEscape": "neurai_surrogates.stochastic_escape.shape:StochasticEscape"},
        references=cited(__name__, "gerstner2014neuronal"),
    ),
    "neurai_surrogates.stochastic_escape.shape:StochasticEscape.build",
)

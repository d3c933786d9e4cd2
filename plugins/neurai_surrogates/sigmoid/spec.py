"""Settings and spec of `sigmoid`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SigmoidConfig(Config):
    """Settings of `sigmoid`."""

    alpha: float = Field(4.0, gt=0, description="slope of the logistic function, per unit of u; half width 1.763/alpha")
    spiking: Spiking = True


sigmoid = Plugin(
    SurrogateSpec(
        name="sigmoid",
        summary="Sigmoid: the density of the logistic distribution.",
        config=SigmoidConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\alpha \sigma(\alpha u) \sigma(-\alpha u)",
        primitive=r"\sigma(\alpha u)",
        equation="h3",
        width="alpha",
        area="1",
        offers={"Sigmoid": "neurai_surrogates.sigmoid.shape:Sigmoid"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.sigmoid.shape:Sigmoid.build",
)

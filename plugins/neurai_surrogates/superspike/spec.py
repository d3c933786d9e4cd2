"""Settings and spec of `superspike`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SuperSpikeConfig(Config):
    """Settings of `superspike`."""

    alpha: float = Field(1.0, gt=0, description="slope of the fast sigmoid, per unit of u; half width 0.414/alpha")
    spiking: Spiking = True


superspike = Plugin(
    SurrogateSpec(
        name="superspike",
        summary="SuperSpike: the derivative of the fast sigmoid, peak 1, heavy tails.",
        config=SuperSpikeConfig,
        claims=("unimodal",),
        derivative=r"\frac{1}{(1 + \alpha |u|)^2}",
        primitive=r"\frac{u}{1 + \alpha |u|} + \frac{1}{\alpha}",
        width="alpha",
        area="2 / alpha",
        offers={"SuperSpike": "neurai_surrogates.superspike.shape:SuperSpike"},
        references=cited(__name__, "zenke2018superspike"),
    ),
    "neurai_surrogates.superspike.shape:SuperSpike.build",
)

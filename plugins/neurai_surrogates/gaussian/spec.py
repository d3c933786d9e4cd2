"""Settings and spec of `gaussian`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class GaussianConfig(Config):
    """Settings of `gaussian`."""

    alpha: float = Field(1.0, gt=0, description="variance, in units of u squared; half width 1.177 sqrt(alpha)")
    spiking: Spiking = True


gaussian = Plugin(
    SurrogateSpec(
        name="gaussian",
        summary="Gaussian: the normal density of variance alpha.",
        config=GaussianConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{1}{\sqrt{2 \pi \alpha}} e^{-\frac{u^2}{2 \alpha}}",
        primitive=r"\frac{1}{2} \operatorname{erfc}\left(\frac{-u}{\sqrt{2 \alpha}}\right)",
        equation="h4",
        width="alpha",
        area="1",
        offers={"Gaussian": "neurai_surrogates.gaussian.shape:Gaussian"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.gaussian.shape:Gaussian.build",
)

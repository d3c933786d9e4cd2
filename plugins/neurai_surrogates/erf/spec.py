"""Settings and spec of `erf`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class ErfConfig(Config):
    """Settings of `erf`."""

    alpha: float = Field(1.0, gt=0, description="slope of the error function, per unit of u; half width 0.833/alpha")
    spiking: Spiking = True


erf = Plugin(
    SurrogateSpec(
        name="erf",
        summary="Erf: the density whose primitive is erfc(-alpha u)/2.",
        config=ErfConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{\sqrt{\pi}} e^{-\alpha^2 u^2}",
        primitive=r"\frac{1}{2} \operatorname{erfc}\left(-\alpha u\right)",
        width="alpha",
        area="1",
        offers={"Erf": "neurai_surrogates.erf.shape:Erf"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.erf.shape:Erf.build",
)

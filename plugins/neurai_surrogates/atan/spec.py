"""Settings and spec of `atan`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class AtanConfig(Config):
    """Settings of `atan`."""

    alpha: float = Field(2.0, gt=0, description="twice the peak, per unit of u; half width 2/(pi alpha)")
    spiking: Spiking = True


atan = Plugin(
    SurrogateSpec(
        name="atan",
        summary="Atan: the Cauchy density, heavy tails.",
        config=AtanConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{2 \left(1 + \left(\frac{\pi}{2} \alpha u\right)^2\right)}",
        primitive=r"\frac{1}{\pi} \arctan\left(\frac{\pi}{2} \alpha u\right) + \frac{1}{2}",
        width="alpha",
        area="1",
        offers={"Atan": "neurai_surrogates.atan.shape:Atan"},
        references=cited(__name__, "fang2021incorporating"),
    ),
    "neurai_surrogates.atan.shape:Atan.build",
)

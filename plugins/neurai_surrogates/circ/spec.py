"""Settings and spec of `circ`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class CircConfig(Config):
    """Settings of `circ`."""

    alpha: float = Field(0.5, gt=0, description="radius, in units of u; half width 0.766 alpha")
    spiking: Spiking = True


circ = Plugin(
    SurrogateSpec(
        name="circ",
        summary="Circ: the derivative of u over its distance from a circle's center, peak 1.",
        config=CircConfig,
        claims=("unimodal",),
        derivative=r"\frac{\alpha^3}{\left(u^2 + \alpha^2\right)^{\frac{3}{2}}}",
        primitive=r"\alpha + \frac{\alpha u}{\sqrt{u^2 + \alpha^2}}",
        width="alpha",
        area="2 * alpha",
        offers={"Circ": "neurai_surrogates.circ.shape:Circ"},
        references=cited(__name__, "norse"),
    ),
    "neurai_surrogates.circ.shape:Circ.build",
)

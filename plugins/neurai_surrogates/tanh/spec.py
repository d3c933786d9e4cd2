"""Settings and spec of `tanh`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class TanhConfig(Config):
    """Settings of `tanh`."""

    alpha: float = Field(
        1.0, gt=0, description="slope of the hyperbolic tangent, per unit of u; half width 0.881/alpha"
    )
    spiking: Spiking = True


tanh = Plugin(
    SurrogateSpec(
        name="tanh",
        summary="Tanh: the derivative of tanh(alpha u) at peak 1.",
        config=TanhConfig,
        claims=("unimodal",),
        derivative=r"1 - \tanh\left(\alpha u\right)^2",
        primitive=r"\frac{1 + \tanh\left(\alpha u\right)}{\alpha}",
        width="alpha",
        area="2 / alpha",
        offers={"Tanh": "neurai_surrogates.tanh.shape:Tanh"},
        references=cited(__name__, "neftci2019surrogate"),
    ),
    "neurai_surrogates.tanh.shape:Tanh.build",
)

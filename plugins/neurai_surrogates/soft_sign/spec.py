"""Settings and spec of `softsign`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SoftSignConfig(Config):
    """Settings of `softsign`."""

    alpha: float = Field(2.0, gt=0, description="slope of the fast sigmoid, per unit of u; half width 0.414/alpha")
    spiking: Spiking = True


softsign = Plugin(
    SurrogateSpec(
        name="softsign",
        summary="SoftSign: the derivative of the fast sigmoid, heavy tails.",
        config=SoftSignConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{2 (1 + \alpha |u|)^2}",
        primitive=r"\frac{1}{2} \left(\frac{\alpha u}{1 + \alpha |u|} + 1\right)",
        width="alpha",
        area="1",
        offers={"SoftSign": "neurai_surrogates.soft_sign.shape:SoftSign"},
        references=cited(__name__, "zenke2018superspike"),
    ),
    "neurai_surrogates.soft_sign.shape:SoftSign.build",
)

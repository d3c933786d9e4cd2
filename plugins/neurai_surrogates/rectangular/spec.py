"""Settings and spec of `rectangular`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class RectangularConfig(Config):
    """Settings of `rectangular`."""

    alpha: float = Field(1.0, gt=0, description="full width of the window, in units of u")
    spiking: Spiking = True


rectangular = Plugin(
    SurrogateSpec(
        name="rectangular",
        summary="Rectangular: a window of width alpha.",
        config=RectangularConfig,
        claims=("unimodal", "unit-area", "compact"),
        derivative=r"\begin{cases} \frac{1}{\alpha} & |u| < \frac{\alpha}{2} \\ 0 & \text{otherwise} \end{cases}",
        primitive=r"\operatorname{clip}\left(\frac{u}{\alpha} + \frac{1}{2}, 0, 1\right)",
        equation="h1",
        width="alpha",
        area="1",
        support="abs(u) < alpha / 2",
        offers={"Rectangular": "neurai_surrogates.rectangular.shape:Rectangular"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.rectangular.shape:Rectangular.build",
)

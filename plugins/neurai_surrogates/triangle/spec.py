"""Settings and spec of `triangle`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class TriangleConfig(Config):
    """Settings of `triangle`."""

    width: float = Field(1.0, gt=0, description="half the base, in units of u; half width width/2")
    peak: float = Field(0.3, gt=0, description="height at the threshold, per unit of u")
    spiking: Spiking = True


triangle = Plugin(
    SurrogateSpec(
        name="triangle",
        summary="Triangle: independent height and base.",
        config=TriangleConfig,
        claims=("unimodal", "compact"),
        derivative=r"p \max\left(1 - \frac{|u|}{w}, 0\right)",
        primitive=(
            r"\begin{cases} 0 & u < -w \\ p w & u > w \\"
            r" p \left(\frac{w}{2} + u - \frac{u |u|}{2 w}\right) & \text{otherwise} \end{cases}"
        ),
        letters={"w": "width", "p": "peak"},
        width="width",
        area="peak * width",
        support="abs(u) <= width",
        offers={"Triangle": "neurai_surrogates.triangle.shape:Triangle"},
        references=cited(__name__, "bellec2018long", "esser2016convolutional"),
    ),
    "neurai_surrogates.triangle.shape:Triangle.build",
)

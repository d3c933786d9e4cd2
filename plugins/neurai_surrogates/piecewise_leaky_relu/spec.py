"""Settings and spec of `piecewiseleakyrelu`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class PiecewiseLeakyReLUConfig(Config):
    """Settings of `piecewiseleakyrelu`."""

    width: float = Field(1.0, gt=0, description="half width of the steep part, in units of u; its slope is 1/(2 width)")
    leak: float = Field(0.01, ge=0, description="derivative on both sides of the steep part")
    spiking: Spiking = True


piecewiseleakyrelu = Plugin(
    SurrogateSpec(
        name="piecewiseleakyrelu",
        summary="PiecewiseLeakyReLU: a ramp of height 1 that continues with a small slope on both sides.",
        config=PiecewiseLeakyReLUConfig,
        claims=("unimodal",),
        derivative=r"\begin{cases} \frac{1}{2 w} & |u| \le w \\ c & \text{otherwise} \end{cases}",
        primitive=(
            r"\begin{cases} c (u + w) & u < -w \\ c (u - w) + 1 & u > w \\"
            r" \frac{u}{2 w} + \frac{1}{2} & \text{otherwise} \end{cases}"
        ),
        letters={"w": "width", "c": "leak"},
        width="width",
        area="where(leak > 0, inf, 1)",
        support="abs(u) <= width or leak > 0",
        offers={"PiecewiseLeakyReLU": "neurai_surrogates.piecewise_leaky_relu.shape:PiecewiseLeakyReLU"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.piecewise_leaky_relu.shape:PiecewiseLeakyReLU.build",
)

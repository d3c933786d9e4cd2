"""The raised-cosine surrogate in light words; its formulas are in `shape`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import Config, SurrogateSpec


class RaisedCosineConfig(Config):
    """Settings of the raised cosine."""

    width: float = Field(1.0, gt=0, description="half of its support and its full width at half maximum, in units of u")
    spiking: bool = Field(True, description="forward pass: the step (true) or the primitive (false)")


raised_cosine = Plugin(
    SurrogateSpec(
        name="raised-cosine",
        summary="One period of a raised cosine.",
        config=RaisedCosineConfig,
        derivative=r"\frac{1 + \cos(\pi u / w)}{2w} \text{ for } |u| \le w",
        primitive=r"\frac{1}{2} + \frac{u}{2w} + \frac{\sin(\pi u / w)}{2\pi}",
        width="width",
        area="1",
        support="[-width, width]",
        claims=("unimodal", "unit-area", "compact"),
    ),
    "neurai_raised_cosine.shape:RaisedCosine.build",
)

"""Settings and spec of `leakyrelu`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class LeakyReLUConfig(Config):
    """Settings of `leakyrelu`."""

    slope: float = Field(1.0, gt=0, description="derivative from the threshold on")
    leak: float = Field(0.1, ge=0, description="derivative below the threshold")
    spiking: Spiking = True


leakyrelu = Plugin(
    SurrogateSpec(
        name="leakyrelu",
        summary="LeakyReLU: one slope above the threshold, another one below.",
        config=LeakyReLUConfig,
        derivative=r"\begin{cases} c & u < 0 \\ s & \text{otherwise} \end{cases}",
        primitive=r"\begin{cases} c u & u < 0 \\ s u & \text{otherwise} \end{cases}",
        letters={"c": "leak", "s": "slope"},
        area="inf",
        support="u >= 0 or leak > 0",
        symmetry="none",
        offers={"LeakyReLU": "neurai_surrogates.leaky_relu.shape:LeakyReLU"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.leaky_relu.shape:LeakyReLU.build",
)

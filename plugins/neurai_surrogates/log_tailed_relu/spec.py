"""Settings and spec of `logtailedrelu`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class LogTailedReLUConfig(Config):
    """Settings of `logtailedrelu`."""

    width: float = Field(1.0, gt=0, description="where the tail begins, in units of u; half width 2 width")
    leak: float = Field(0.0, ge=0, description="derivative below the threshold")
    spiking: Spiking = True


logtailedrelu = Plugin(
    SurrogateSpec(
        name="logtailedrelu",
        summary="LogTailedReLU: 1 above the threshold, then falling as 1/u; leak below.",
        config=LogTailedReLUConfig,
        derivative=(r"\begin{cases} c & u < 0 \\ \frac{w}{u} & u > w \\ 1 & \text{otherwise} \end{cases}"),
        primitive=(
            r"\begin{cases} c u & u < 0 \\ w \left(1 + \ln\left(\frac{u}{w}\right)\right) & u > w \\"
            r" u & \text{otherwise} \end{cases}"
        ),
        letters={"w": "width", "c": "leak"},
        width="width",
        area="inf",
        support="u >= 0 or leak > 0",
        symmetry="none",
        offers={"LogTailedReLU": "neurai_surrogates.log_tailed_relu.shape:LogTailedReLU"},
        references=cited(__name__, "cai2017deep"),
    ),
    "neurai_surrogates.log_tailed_relu.shape:LogTailedReLU.build",
)

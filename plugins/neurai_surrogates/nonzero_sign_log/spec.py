"""Settings and spec of `nonzerosignlog`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class NonzeroSignLogConfig(Config):
    """Settings of `nonzerosignlog`."""

    alpha: float = Field(1.0, gt=0, description="slope beside the peak, per unit of u; half width 1/alpha")
    spiking: Spiking = True


nonzerosignlog = Plugin(
    SurrogateSpec(
        name="nonzerosignlog",
        summary="NonzeroSignLog: the derivative of a signed logarithm, peak 1, tails 1/u.",
        config=NonzeroSignLogConfig,
        claims=("unimodal",),
        derivative=r"\frac{1}{1 + \alpha |u|}",
        primitive=(
            r"\begin{cases} -\frac{1}{\alpha} \ln\left(1 - \alpha u\right) & u < 0 \\"
            r" \frac{1}{\alpha} \ln\left(1 + \alpha u\right) & \text{otherwise} \end{cases}"
        ),
        width="alpha",
        area="inf",
        offers={"NonzeroSignLog": "neurai_surrogates.nonzero_sign_log.shape:NonzeroSignLog"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.nonzero_sign_log.shape:NonzeroSignLog.build",
)

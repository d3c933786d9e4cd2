"""Settings and spec of `periodicexponential`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class PeriodicExponentialConfig(Config):
    """Settings of `periodicexponential`."""

    grad_width: float = Field(0.5, gt=0, description="decay length, in units of u; half width 0.693 grad_width")
    grad_scale: float = Field(1.0, gt=0, description="peak times the period")
    period: float = Field(1.0, gt=0, description="distance between peaks, in units of u: the threshold")
    spiking: Spiking = True


periodicexponential = Plugin(
    SurrogateSpec(
        name="periodicexponential",
        summary="PeriodicExponential: a peak at the threshold and at every further period above it.",
        config=PeriodicExponentialConfig,
        derivative=r"\frac{c}{T} e^{-\frac{|u - k T|}{w}}",
        primitive=(
            r"\begin{cases} \frac{c w}{T} \left(2 k \left(1 - e^{-\frac{T}{2 w}}\right) + e^{\frac{u - k T}{w}}\right)"
            r" & u < k T \\"
            r" \frac{c w}{T} \left(2 k \left(1 - e^{-\frac{T}{2 w}}\right) + 2 - e^{-\frac{u - k T}{w}}\right)"
            r" & \text{otherwise} \end{cases}"
        ),
        letters={
            "w": "grad_width",
            "c": "grad_scale",
            "T": "period",
            "k": "max(floor(u / period + 1 / 2), 0)",
        },
        width="grad_width",
        area="inf",
        symmetry="none",
        offers={"PeriodicExponential": "neurai_surrogates.periodic_exponential.shape:PeriodicExponential"},
        references=cited(__name__, "weidel2021wavesense"),
    ),
    "neurai_surrogates.periodic_exponential.shape:PeriodicExponential.build",
)

"""Settings and spec of `singleexponential`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SingleExponentialConfig(Config):
    """Settings of `singleexponential`."""

    grad_width: float = Field(
        0.5,
        gt=0,
        description="decay length, in units of u, not of the threshold; half width 0.693 grad_width",
    )
    grad_scale: float = Field(1.0, gt=0, description="half the area; peak grad_scale/grad_width")
    spiking: Spiking = True


singleexponential = Plugin(
    SurrogateSpec(
        name="singleexponential",
        summary="SingleExponential: exponential decay on both sides.",
        config=SingleExponentialConfig,
        claims=("unimodal",),
        derivative=r"\frac{c}{w} e^{-\frac{|u|}{w}}",
        primitive=(
            r"\begin{cases} c e^{\frac{u}{w}} & u < 0 \\"
            r" c \left(2 - e^{-\frac{u}{w}}\right) & \text{otherwise} \end{cases}"
        ),
        letters={"w": "grad_width", "c": "grad_scale"},
        width="grad_width",
        area="2 * grad_scale",
        offers={"SingleExponential": "neurai_surrogates.single_exponential.shape:SingleExponential"},
        references=cited(__name__, "shrestha2018slayer"),
    ),
    "neurai_surrogates.single_exponential.shape:SingleExponential.build",
)

"""Settings and spec of `qpseudospike`, free of JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class QPseudoSpikeConfig(Config):
    """Settings of `qpseudospike`."""

    alpha: float = Field(2.0, gt=1, description="exponent of the tails")
    convention: Literal["minus", "plus"] = Field(
        "minus", description="slope beside the peak: 2 alpha/(alpha - 1) as published, or 2 alpha/(alpha + 1)"
    )
    spiking: Spiking = True


qpseudospike = Plugin(
    SurrogateSpec(
        name="qpseudospike",
        summary="QPseudoSpike: a peak of height 1 whose tails fall as a power alpha of u.",
        config=QPseudoSpikeConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\left(1 + k |u|\right)^{-\alpha}",
        primitive=(
            r"\begin{cases} \frac{\left(1 - k u\right)^{1 - \alpha}}{k (\alpha - 1)} & u < 0 \\"
            r" \frac{2 - \left(1 + k u\right)^{1 - \alpha}}{k (\alpha - 1)} & \text{otherwise} \end{cases}"
        ),
        letters={"k": "2 / (alpha - 1) if convention == 'minus' else 2 / (alpha + 1)"},
        width="alpha",
        area="1 if convention == 'minus' else (alpha + 1) / (alpha - 1)",
        offers={"QPseudoSpike": "neurai_surrogates.q_pseudo_spike.shape:QPseudoSpike"},
        references=cited(__name__, "herranz2022surrogate"),
    ),
    "neurai_surrogates.q_pseudo_spike.shape:QPseudoSpike.build",
)

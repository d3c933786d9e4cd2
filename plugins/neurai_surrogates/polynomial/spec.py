"""Settings and spec of `polynomial`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class PolynomialConfig(Config):
    """Settings of `polynomial`."""

    alpha: float = Field(
        1.0, gt=0, description="squared inverse half width, per unit of u squared: zero beyond 2/sqrt(alpha)"
    )
    spiking: Spiking = True


polynomial = Plugin(
    SurrogateSpec(
        name="polynomial",
        summary="Polynomial: a triangle that ends at 2/sqrt(alpha).",
        config=PolynomialConfig,
        claims=("unimodal", "unit-area", "compact"),
        derivative=r"\max\left(\frac{\sqrt{\alpha}}{2} - \frac{\alpha |u|}{4}, 0\right)",
        primitive=(
            r"\begin{cases} 0 & u < -\frac{2}{\sqrt{\alpha}} \\ 1 & u > \frac{2}{\sqrt{\alpha}} \\"
            r" \frac{1}{2} + \frac{\sqrt{\alpha}}{2} u - \frac{\alpha}{8} u |u| & \text{otherwise} \end{cases}"
        ),
        equation="h2",
        width="alpha",
        area="1",
        support="abs(u) <= 2 / sqrt(alpha)",
        offers={"Polynomial": "neurai_surrogates.polynomial.shape:Polynomial"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.polynomial.shape:Polynomial.build",
)

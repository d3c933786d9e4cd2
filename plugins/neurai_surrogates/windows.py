"""Windows, outside which the derivative is zero: settings and specs, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking

# ---- settings


class PolynomialConfig(Config):
    """Settings of `polynomial`."""

    alpha: float = Field(
        1.0,
        gt=0,
        description="squared inverse half width, per unit of u squared: zero beyond 2/sqrt(alpha), area 1",
    )
    spiking: Spiking = True


class TriangleConfig(Config):
    """Settings of `triangle`."""

    width: float = Field(1.0, gt=0, description="half the base, in units of u; half width width/2, area peak width")
    peak: float = Field(0.3, gt=0, description="height at the threshold, per unit of u")
    spiking: Spiking = True


class RectangularConfig(Config):
    """Settings of `rectangular`."""

    alpha: float = Field(1.0, gt=0, description="full width of the window, in units of u; area 1")
    spiking: Spiking = True


class SparseFastSigmoidConfig(Config):
    """Settings of `sparsefastsigmoid`."""

    alpha: float = Field(25.0, gt=0, description="slope of the fast sigmoid, per unit of u")
    window: float = Field(1.0, gt=0, description="distance from the threshold beyond which the derivative is 0")
    spiking: Spiking = True


# ---- plugins

polynomial = Plugin(
    SurrogateSpec(
        name="polynomial",
        summary="Polynomial: a triangle that ends at 2/sqrt(alpha), area 1.",
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
        offers={"Polynomial": "neurai_surrogates.shapes.polynomial:Polynomial"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.shapes.polynomial:Polynomial.build",
)

triangle = Plugin(
    SurrogateSpec(
        name="triangle",
        summary="Triangle: independent height and base, area peak times width.",
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
        offers={"Triangle": "neurai_surrogates.shapes.triangle:Triangle"},
        references=cited(__name__, "bellec2018long", "esser2016convolutional"),
    ),
    "neurai_surrogates.shapes.triangle:Triangle.build",
)

rectangular = Plugin(
    SurrogateSpec(
        name="rectangular",
        summary="Rectangular: a window of width alpha, area 1.",
        config=RectangularConfig,
        claims=("unimodal", "unit-area", "compact"),
        derivative=r"\begin{cases} \frac{1}{\alpha} & |u| < \frac{\alpha}{2} \\ 0 & \text{otherwise} \end{cases}",
        primitive=r"\operatorname{clip}\left(\frac{u}{\alpha} + \frac{1}{2}, 0, 1\right)",
        equation="h1",
        width="alpha",
        area="1",
        support="abs(u) < alpha / 2",
        offers={"Rectangular": "neurai_surrogates.shapes.rectangular:Rectangular"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.shapes.rectangular:Rectangular.build",
)

sparsefastsigmoid = Plugin(
    SurrogateSpec(
        name="sparsefastsigmoid",
        summary="SparseFastSigmoid: SuperSpike inside a window, zero outside, so that most neurons pass nothing back.",
        config=SparseFastSigmoidConfig,
        claims=("unimodal", "compact"),
        derivative=(r"\begin{cases} \frac{1}{(1 + \alpha |u|)^2} & |u| < B \\ 0 & \text{otherwise} \end{cases}"),
        primitive=(r"\frac{v}{1 + \alpha |v|} + \frac{B}{1 + \alpha B}"),
        letters={"B": "window", "v": "min(max(u, -window), window)"},
        width="alpha",
        area="2 * window / (1 + alpha * window)",
        support="abs(u) < window",
        offers={"SparseFastSigmoid": "neurai_surrogates.shapes.sparse_fast_sigmoid:SparseFastSigmoid"},
        references=cited(__name__, "perez2021sparse"),
    ),
    "neurai_surrogates.shapes.sparse_fast_sigmoid:SparseFastSigmoid.build",
)

"""Bells without a kink: settings and specs, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking

# ---- settings


class GaussianConfig(Config):
    """Settings of `gaussian`."""

    alpha: float = Field(1.0, gt=0, description="variance, in units of u squared; half width 1.177 sqrt(alpha), area 1")
    spiking: Spiking = True


class ErfConfig(Config):
    """Settings of `erf`."""

    alpha: float = Field(
        1.0, gt=0, description="slope of the error function, per unit of u; half width 0.833/alpha, area 1"
    )
    spiking: Spiking = True


class SigmoidConfig(Config):
    """Settings of `sigmoid`."""

    alpha: float = Field(
        4.0, gt=0, description="slope of the logistic function, per unit of u; half width 1.763/alpha, area 1"
    )
    spiking: Spiking = True


class TanhConfig(Config):
    """Settings of `tanh`."""

    alpha: float = Field(
        1.0, gt=0, description="slope of the hyperbolic tangent, per unit of u; half width 0.881/alpha, area 2/alpha"
    )
    spiking: Spiking = True


class AtanConfig(Config):
    """Settings of `atan`."""

    alpha: float = Field(2.0, gt=0, description="twice the peak, per unit of u; half width 2/(pi alpha), area 1")
    spiking: Spiking = True


class CircConfig(Config):
    """Settings of `circ`."""

    alpha: float = Field(0.5, gt=0, description="radius, in units of u; half width 0.766 alpha, area 2 alpha")
    spiking: Spiking = True


class MultiGaussianConfig(Config):
    """Settings of `multigaussian`; ``hight`` is spelled as it is documented."""

    lens: float = Field(
        0.5,
        gt=0,
        description="standard deviation of the central lobe and distance to the side lobes, in units of u",
    )
    scale: float = Field(6.0, gt=0, description="standard deviation of a side lobe divided by that of the central one")
    hight: float = Field(0.15, ge=0, lt=1, description="weight of one negative side lobe; area 1 - hight")
    spiking: Spiking = True


class SquareWaveFourierConfig(Config):
    """Settings of `squarewavefourier`."""

    period: float = Field(8.0, gt=0, description="period of the square wave, in units of u; peak 4 terms/period")
    terms: int = Field(2, ge=1, le=64, description="terms of the Fourier series")
    spiking: Spiking = True


# ---- plugins

gaussian = Plugin(
    SurrogateSpec(
        name="gaussian",
        summary="Gaussian: the normal density of variance alpha, area 1.",
        config=GaussianConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{1}{\sqrt{2 \pi \alpha}} e^{-\frac{u^2}{2 \alpha}}",
        primitive=r"\frac{1}{2} \operatorname{erfc}\left(\frac{-u}{\sqrt{2 \alpha}}\right)",
        equation="h4",
        width="alpha",
        area="1",
        offers={"Gaussian": "neurai_surrogates.shapes.gaussian:Gaussian"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.shapes.gaussian:Gaussian.build",
)

erf = Plugin(
    SurrogateSpec(
        name="erf",
        summary="Erf: the density whose primitive is erfc(-alpha u)/2, area 1.",
        config=ErfConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{\sqrt{\pi}} e^{-\alpha^2 u^2}",
        primitive=r"\frac{1}{2} \operatorname{erfc}\left(-\alpha u\right)",
        width="alpha",
        area="1",
        offers={"Erf": "neurai_surrogates.shapes.erf:Erf"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.shapes.erf:Erf.build",
)

sigmoid = Plugin(
    SurrogateSpec(
        name="sigmoid",
        summary="Sigmoid: the density of the logistic distribution, area 1.",
        config=SigmoidConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\alpha \sigma(\alpha u) \sigma(-\alpha u)",
        primitive=r"\sigma(\alpha u)",
        equation="h3",
        width="alpha",
        area="1",
        offers={"Sigmoid": "neurai_surrogates.shapes.sigmoid:Sigmoid"},
        references=cited(__name__, "wu2018spatiotemporal"),
    ),
    "neurai_surrogates.shapes.sigmoid:Sigmoid.build",
)

tanh = Plugin(
    SurrogateSpec(
        name="tanh",
        summary="Tanh: the derivative of tanh(alpha u) at peak 1, area 2/alpha.",
        config=TanhConfig,
        claims=("unimodal",),
        derivative=r"1 - \tanh\left(\alpha u\right)^2",
        primitive=r"\frac{1 + \tanh\left(\alpha u\right)}{\alpha}",
        width="alpha",
        area="2 / alpha",
        offers={"Tanh": "neurai_surrogates.shapes.tanh:Tanh"},
        references=cited(__name__, "neftci2019surrogate"),
    ),
    "neurai_surrogates.shapes.tanh:Tanh.build",
)

atan = Plugin(
    SurrogateSpec(
        name="atan",
        summary="Atan: the Cauchy density, heavy tails, area 1.",
        config=AtanConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{2 \left(1 + \left(\frac{\pi}{2} \alpha u\right)^2\right)}",
        primitive=r"\frac{1}{\pi} \arctan\left(\frac{\pi}{2} \alpha u\right) + \frac{1}{2}",
        width="alpha",
        area="1",
        offers={"Atan": "neurai_surrogates.shapes.atan:Atan"},
        references=cited(__name__, "fang2021incorporating"),
    ),
    "neurai_surrogates.shapes.atan:Atan.build",
)

circ = Plugin(
    SurrogateSpec(
        name="circ",
        summary="Circ: the derivative of u over its distance from a circle's center, peak 1, area 2 alpha.",
        config=CircConfig,
        claims=("unimodal",),
        derivative=r"\frac{\alpha^3}{\left(u^2 + \alpha^2\right)^{\frac{3}{2}}}",
        primitive=r"\alpha + \frac{\alpha u}{\sqrt{u^2 + \alpha^2}}",
        width="alpha",
        area="2 * alpha",
        offers={"Circ": "neurai_surrogates.shapes.circ:Circ"},
        references=cited(__name__, "norse"),
    ),
    "neurai_surrogates.shapes.circ:Circ.build",
)

multigaussian = Plugin(
    SurrogateSpec(
        name="multigaussian",
        summary="MultiGaussian: a central lobe and two wide negative side lobes, area 1 - hight.",
        config=MultiGaussianConfig,
        claims=("signed",),
        derivative=(r"(1 + h) \mathcal{N}(u; 0, l^2) - h \mathcal{N}(u; l, (s l)^2) - h \mathcal{N}(u; -l, (s l)^2)"),
        primitive=(
            r"(1 + h) \Phi\left(\frac{u}{l}\right) - h \Phi\left(\frac{u - l}{s l}\right)"
            r" - h \Phi\left(\frac{u + l}{s l}\right)"
        ),
        letters={"l": "lens", "s": "scale", "h": "hight"},
        width="lens",
        area="1 - hight",
        offers={"MultiGaussian": "neurai_surrogates.shapes.multi_gaussian:MultiGaussian"},
        references=cited(__name__, "yin2021accurate"),
    ),
    "neurai_surrogates.shapes.multi_gaussian:MultiGaussian.build",
)

squarewavefourier = Plugin(
    SurrogateSpec(
        name="squarewavefourier",
        summary="SquareWaveFourier: the first terms of the Fourier series of a square wave; signed, periodic.",
        config=SquareWaveFourierConfig,
        claims=("signed",),
        derivative=r"\frac{4}{T} \sum_{i=1}^{n} \cos\left(\frac{2 \pi (2 i - 1) u}{T}\right)",
        primitive=(
            r"\frac{1}{2} + \frac{2}{\pi} \sum_{i=1}^{n}"
            r" \frac{1}{2 i - 1} \sin\left(\frac{2 \pi (2 i - 1) u}{T}\right)"
        ),
        letters={"T": "period", "n": "terms"},
        width="period",
        offers={"SquareWaveFourier": "neurai_surrogates.shapes.square_wave_fourier:SquareWaveFourier"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.shapes.square_wave_fourier:SquareWaveFourier.build",
)

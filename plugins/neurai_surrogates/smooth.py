r"""Surrogate derivatives that ship with NeurAI: their specs, free of JAX; the mathematics is in ``shapes``.

In every formula u is the membrane potential minus the threshold. ``area`` and ``support`` are Python
expressions in the settings and u, so that programs can evaluate them. Claims: ``unimodal`` (never negative,
highest at the threshold, falling on both sides), ``signed`` (takes both signs), ``unit-area``, ``compact``
(bounded support).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.references import SHRESTHA_2018, WU_2018, YIN_2021, ZENKE_2018

Spiking = Annotated[
    bool,
    Field(description="forward pass: the step (true) or the primitive (false); the derivative is the same"),
]

# ---- settings


class GaussianConfig(Config):
    """Settings of `gaussian`."""

    alpha: float = Field(1.0, gt=0, description="variance, in units of u squared; half width 1.177 sqrt(alpha), area 1")
    spiking: Spiking = True


class MultiGaussianConfig(Config):
    """Settings of `multigaussian`; ``hight`` is spelled as it is documented."""

    lens: float = Field(
        0.5,
        gt=0,
        description="standard deviation of the central lobe and distance of the side lobes, in units of u",
    )
    scale: float = Field(6.0, gt=0, description="standard deviation of a side lobe over that of the central one")
    hight: float = Field(0.15, ge=0, lt=1, description="weight of one negative side lobe; area 1 - hight")
    spiking: Spiking = True


class PolynomialConfig(Config):
    """Settings of `polynomial`."""

    alpha: float = Field(
        1.0,
        gt=0,
        description="squared inverse half width, per unit of u squared: zero beyond 2/sqrt(alpha), area 1",
    )
    spiking: Spiking = True


class RectangularConfig(Config):
    """Settings of `rectangular`."""

    alpha: float = Field(1.0, gt=0, description="full width of the window, in units of u; area 1")
    spiking: Spiking = True


class SigmoidConfig(Config):
    """Settings of `sigmoid`."""

    alpha: float = Field(
        4.0, gt=0, description="slope of the logistic function, per unit of u; half width 1.763/alpha, area 1"
    )
    spiking: Spiking = True


class SingleExponentialConfig(Config):
    """Settings of `singleexponential`."""

    grad_width: float = Field(
        0.5,
        gt=0,
        description="decay length, in units of u, not of the threshold; half width 0.693 grad_width",
    )
    grad_scale: float = Field(1.0, gt=0, description="half the area; peak grad_scale/grad_width")
    spiking: Spiking = True


class SlayerPdfConfig(Config):
    """Settings of `slayerpdf`."""

    scale: float = Field(1.0, gt=0, description="area under the derivative")
    tau: float = Field(
        10.0,
        gt=0,
        description="decay length, in units of u; the default is nearly flat for thresholds near 1",
    )
    spiking: Spiking = True


class SuperSpikeConfig(Config):
    """Settings of `superspike`."""

    alpha: float = Field(
        1.0,
        gt=0,
        description="slope of the fast sigmoid, per unit of u; half width 0.414/alpha, area 2/alpha",
    )
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
        references=(WU_2018,),
    ),
    "neurai_surrogates.shapes.gaussian:Gaussian.build",
)

multigaussian = Plugin(
    SurrogateSpec(
        name="multigaussian",
        summary="MultiGaussian: a central lobe and two wide negative side lobes, area 1 - hight.",
        config=MultiGaussianConfig,
        claims=("signed",),
        derivative=(
            r"(1 + h)\,\mathcal{N}(u; 0, l^2)"
            r" - h\,\mathcal{N}(u; l, (s l)^2) - h\,\mathcal{N}(u; -l, (s l)^2)"
        ),
        primitive=(
            r"(1 + h)\,\Phi\left(\frac{u}{l}\right) - h\,\Phi\left(\frac{u - l}{s l}\right)"
            r" - h\,\Phi\left(\frac{u + l}{s l}\right)"
        ),
        width="lens",
        area="1 - hight",
        offers={"MultiGaussian": "neurai_surrogates.shapes.multi_gaussian:MultiGaussian"},
        references=(YIN_2021,),
    ),
    "neurai_surrogates.shapes.multi_gaussian:MultiGaussian.build",
)

polynomial = Plugin(
    SurrogateSpec(
        name="polynomial",
        summary="Polynomial: a triangle that ends at 2/sqrt(alpha), area 1.",
        config=PolynomialConfig,
        claims=("unimodal", "unit-area", "compact"),
        derivative=r"\max\left(\frac{\sqrt{\alpha}}{2} - \frac{\alpha |u|}{4}, 0\right)",
        primitive=(
            r"\frac{1}{2} + \frac{\sqrt{\alpha}}{2} u - \frac{\alpha}{8} u |u|"
            r"\text{ for } |u| \le \frac{2}{\sqrt{\alpha}}\text{, 0 below and 1 above}"
        ),
        equation="h2",
        width="alpha",
        area="1",
        support="abs(u) <= 2 / sqrt(alpha)",
        offers={"Polynomial": "neurai_surrogates.shapes.polynomial:Polynomial"},
        references=(WU_2018,),
    ),
    "neurai_surrogates.shapes.polynomial:Polynomial.build",
)

rectangular = Plugin(
    SurrogateSpec(
        name="rectangular",
        summary="Rectangular: a window of width alpha, area 1.",
        config=RectangularConfig,
        claims=("unimodal", "unit-area", "compact"),
        derivative=r"\frac{1}{\alpha}\text{ for } |u| < \frac{\alpha}{2}\text{, else 0}",
        primitive=r"\operatorname{clip}\left(\frac{u}{\alpha} + \frac{1}{2}, 0, 1\right)",
        equation="h1",
        width="alpha",
        area="1",
        support="abs(u) < alpha / 2",
        offers={"Rectangular": "neurai_surrogates.shapes.rectangular:Rectangular"},
        references=(WU_2018,),
    ),
    "neurai_surrogates.shapes.rectangular:Rectangular.build",
)

sigmoid = Plugin(
    SurrogateSpec(
        name="sigmoid",
        summary="Sigmoid: the density of the logistic distribution, area 1.",
        config=SigmoidConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\alpha\,\sigma(\alpha u)\,\sigma(-\alpha u)",
        primitive=r"\sigma(\alpha u) = \frac{1}{1 + e^{-\alpha u}}",
        equation="h3",
        width="alpha",
        area="1",
        offers={"Sigmoid": "neurai_surrogates.shapes.sigmoid:Sigmoid"},
        references=(WU_2018,),
    ),
    "neurai_surrogates.shapes.sigmoid:Sigmoid.build",
)

singleexponential = Plugin(
    SurrogateSpec(
        name="singleexponential",
        summary="SingleExponential: exponential decay on both sides, area 2 grad_scale.",
        config=SingleExponentialConfig,
        claims=("unimodal",),
        derivative=r"\frac{c}{w} e^{-\frac{|u|}{w}}",
        primitive=r"c\,e^{\frac{u}{w}}\text{ for } u < 0\text{, else } c \left(2 - e^{-\frac{u}{w}}\right)",
        width="grad_width",
        area="2 * grad_scale",
        offers={"SingleExponential": "neurai_surrogates.shapes.single_exponential:SingleExponential"},
        references=(SHRESTHA_2018,),
    ),
    "neurai_surrogates.shapes.single_exponential:SingleExponential.build",
)

slayerpdf = Plugin(
    SurrogateSpec(
        name="slayerpdf",
        summary="SlayerPdf: the Laplace density times scale; its default tau is nearly flat.",
        config=SlayerPdfConfig,
        claims=("unimodal",),
        derivative=r"\frac{c}{2 \tau} e^{-\frac{|u|}{\tau}}",
        primitive=(
            r"\frac{c}{2} e^{\frac{u}{\tau}}\text{ for } u < 0\text{, else }"
            r" c \left(1 - \frac{1}{2} e^{-\frac{u}{\tau}}\right)"
        ),
        width="tau",
        area="scale",
        offers={"SlayerPdf": "neurai_surrogates.shapes.slayer_pdf:SlayerPdf"},
        references=(SHRESTHA_2018,),
    ),
    "neurai_surrogates.shapes.slayer_pdf:SlayerPdf.build",
)

superspike = Plugin(
    SurrogateSpec(
        name="superspike",
        summary="SuperSpike: the derivative of the fast sigmoid, peak 1, heavy tails, area 2/alpha.",
        config=SuperSpikeConfig,
        claims=("unimodal",),
        derivative=r"\frac{1}{(1 + \alpha |u|)^2}",
        primitive=r"\frac{u}{1 + \alpha |u|} + \frac{1}{\alpha}",
        width="alpha",
        area="2 / alpha",
        offers={"SuperSpike": "neurai_surrogates.shapes.superspike:SuperSpike"},
        references=(ZENKE_2018,),
    ),
    "neurai_surrogates.shapes.superspike:SuperSpike.build",
)

"""Peaks with a kink at the threshold: settings and specs, free of JAX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking

# ---- settings


class SuperSpikeConfig(Config):
    """Settings of `superspike`."""

    alpha: float = Field(
        1.0,
        gt=0,
        description="slope of the fast sigmoid, per unit of u; half width 0.414/alpha, area 2/alpha",
    )
    spiking: Spiking = True


class SoftSignConfig(Config):
    """Settings of `softsign`."""

    alpha: float = Field(
        2.0, gt=0, description="slope of the fast sigmoid, per unit of u; half width 0.414/alpha, area 1"
    )
    spiking: Spiking = True


class QPseudoSpikeConfig(Config):
    """Settings of `qpseudospike`."""

    alpha: float = Field(2.0, gt=1, description="exponent of the tails; area 1, or (alpha + 1)/(alpha - 1) with 'plus'")
    convention: Literal["minus", "plus"] = Field(
        "minus", description="slope beside the peak: 2 alpha/(alpha - 1) as published, or 2 alpha/(alpha + 1)"
    )
    spiking: Spiking = True


class NonzeroSignLogConfig(Config):
    """Settings of `nonzerosignlog`."""

    alpha: float = Field(
        1.0, gt=0, description="slope beside the peak, per unit of u; half width 1/alpha, area infinite"
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


class PeriodicExponentialConfig(Config):
    """Settings of `periodicexponential`."""

    grad_width: float = Field(0.5, gt=0, description="decay length, in units of u; half width 0.693 grad_width")
    grad_scale: float = Field(1.0, gt=0, description="peak times the period")
    period: float = Field(1.0, gt=0, description="distance between peaks, in units of u: the threshold")
    spiking: Spiking = True


# ---- plugins

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
        references=cited(__name__, "zenke2018superspike"),
    ),
    "neurai_surrogates.shapes.superspike:SuperSpike.build",
)

softsign = Plugin(
    SurrogateSpec(
        name="softsign",
        summary="SoftSign: the derivative of the fast sigmoid, heavy tails, area 1.",
        config=SoftSignConfig,
        claims=("unimodal", "unit-area"),
        derivative=r"\frac{\alpha}{2 (1 + \alpha |u|)^2}",
        primitive=r"\frac{1}{2} \left(\frac{\alpha u}{1 + \alpha |u|} + 1\right)",
        width="alpha",
        area="1",
        offers={"SoftSign": "neurai_surrogates.shapes.soft_sign:SoftSign"},
        references=cited(__name__, "zenke2018superspike"),
    ),
    "neurai_surrogates.shapes.soft_sign:SoftSign.build",
)

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
        offers={"QPseudoSpike": "neurai_surrogates.shapes.q_pseudo_spike:QPseudoSpike"},
        references=cited(__name__, "herranz2022surrogate"),
    ),
    "neurai_surrogates.shapes.q_pseudo_spike:QPseudoSpike.build",
)

nonzerosignlog = Plugin(
    SurrogateSpec(
        name="nonzerosignlog",
        summary="NonzeroSignLog: the derivative of a signed logarithm, peak 1, tails 1/u, infinite area.",
        config=NonzeroSignLogConfig,
        claims=("unimodal",),
        derivative=r"\frac{1}{1 + \alpha |u|}",
        primitive=(
            r"\begin{cases} -\frac{1}{\alpha} \ln\left(1 - \alpha u\right) & u < 0 \\"
            r" \frac{1}{\alpha} \ln\left(1 + \alpha u\right) & \text{otherwise} \end{cases}"
        ),
        width="alpha",
        area="inf",
        offers={"NonzeroSignLog": "neurai_surrogates.shapes.nonzero_sign_log:NonzeroSignLog"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.shapes.nonzero_sign_log:NonzeroSignLog.build",
)

singleexponential = Plugin(
    SurrogateSpec(
        name="singleexponential",
        summary="SingleExponential: exponential decay on both sides, area 2 grad_scale.",
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
        offers={"SingleExponential": "neurai_surrogates.shapes.single_exponential:SingleExponential"},
        references=cited(__name__, "shrestha2018slayer"),
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
            r"\begin{cases} \frac{c}{2} e^{\frac{u}{\tau}} & u < 0 \\"
            r" c \left(1 - \frac{1}{2} e^{-\frac{u}{\tau}}\right) & \text{otherwise} \end{cases}"
        ),
        letters={"c": "scale"},
        width="tau",
        area="scale",
        offers={"SlayerPdf": "neurai_surrogates.shapes.slayer_pdf:SlayerPdf"},
        references=cited(__name__, "shrestha2018slayer"),
    ),
    "neurai_surrogates.shapes.slayer_pdf:SlayerPdf.build",
)

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
        offers={"PeriodicExponential": "neurai_surrogates.shapes.periodic_exponential:PeriodicExponential"},
        references=cited(__name__, "weidel2021wavesense"),
    ),
    "neurai_surrogates.shapes.periodic_exponential:PeriodicExponential.build",
)

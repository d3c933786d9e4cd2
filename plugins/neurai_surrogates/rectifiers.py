"""Derivatives that do not vanish above the threshold, like those of rectifiers: settings and specs, free of JAX.

Their area is infinite, so they cannot be normalized.
"""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking

# ---- settings


class StraightThroughConfig(Config):
    """Settings of `straightthrough`."""

    spiking: Spiking = True


class OneSidedWindowConfig(Config):
    """Settings of `onesidedwindow`."""

    window: float = Field(0.5, gt=0, description="distance below the threshold at which the derivative starts")
    spiking: Spiking = True


class LeakyReLUConfig(Config):
    """Settings of `leakyrelu`."""

    slope: float = Field(1.0, gt=0, description="derivative from the threshold on")
    leak: float = Field(0.1, ge=0, description="derivative below the threshold")
    spiking: Spiking = True


class PiecewiseLeakyReLUConfig(Config):
    """Settings of `piecewiseleakyrelu`."""

    width: float = Field(1.0, gt=0, description="half width of the steep part, in units of u; its slope is 1/(2 width)")
    leak: float = Field(0.01, ge=0, description="derivative on both sides of the steep part; area infinite unless 0")
    spiking: Spiking = True


class LogTailedReLUConfig(Config):
    """Settings of `logtailedrelu`."""

    width: float = Field(1.0, gt=0, description="where the tail begins, in units of u; half width 2 width")
    leak: float = Field(0.0, ge=0, description="derivative below the threshold")
    spiking: Spiking = True


class S2NNConfig(Config):
    """Settings of `s2nn`."""

    alpha: float = Field(4.0, gt=0, description="slope of the logistic function below the threshold, per unit of u")
    beta: float = Field(1.0, gt=0, description="derivative at the threshold; above it, it falls as 1/(u + 1)")
    spiking: Spiking = True


# ---- plugins

straightthrough = Plugin(
    SurrogateSpec(
        name="straightthrough",
        summary="StraightThrough: the gradient passes unchanged.",
        config=StraightThroughConfig,
        claims=("unimodal",),
        derivative="1",
        primitive="u",
        area="inf",
        offers={"StraightThrough": "neurai_surrogates.shapes.straight_through:StraightThrough"},
        references=cited(__name__, "bengio2013estimating"),
    ),
    "neurai_surrogates.shapes.straight_through:StraightThrough.build",
)

onesidedwindow = Plugin(
    SurrogateSpec(
        name="onesidedwindow",
        summary="OneSidedWindow: 1 from a distance below the threshold on, 0 further below.",
        config=OneSidedWindowConfig,
        derivative=r"\begin{cases} 1 & u \ge -w \\ 0 & \text{otherwise} \end{cases}",
        primitive=r"\max\left(u + w, 0\right)",
        letters={"w": "window"},
        width="window",
        area="inf",
        support="u >= -window",
        symmetry="none",
        offers={"OneSidedWindow": "neurai_surrogates.shapes.one_sided_window:OneSidedWindow"},
        references=cited(__name__, "sinabs"),
    ),
    "neurai_surrogates.shapes.one_sided_window:OneSidedWindow.build",
)

leakyrelu = Plugin(
    SurrogateSpec(
        name="leakyrelu",
        summary="LeakyReLU: one slope above the threshold, another one below.",
        config=LeakyReLUConfig,
        derivative=r"\begin{cases} c & u < 0 \\ s & \text{otherwise} \end{cases}",
        primitive=r"\begin{cases} c u & u < 0 \\ s u & \text{otherwise} \end{cases}",
        letters={"c": "leak", "s": "slope"},
        area="inf",
        support="u >= 0 or leak > 0",
        symmetry="none",
        offers={"LeakyReLU": "neurai_surrogates.shapes.leaky_relu:LeakyReLU"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.shapes.leaky_relu:LeakyReLU.build",
)

piecewiseleakyrelu = Plugin(
    SurrogateSpec(
        name="piecewiseleakyrelu",
        summary="PiecewiseLeakyReLU: a ramp of height 1 that continues with a small slope on both sides.",
        config=PiecewiseLeakyReLUConfig,
        claims=("unimodal",),
        derivative=r"\begin{cases} \frac{1}{2 w} & |u| \le w \\ c & \text{otherwise} \end{cases}",
        primitive=(
            r"\begin{cases} c (u + w) & u < -w \\ c (u - w) + 1 & u > w \\"
            r" \frac{u}{2 w} + \frac{1}{2} & \text{otherwise} \end{cases}"
        ),
        letters={"w": "width", "c": "leak"},
        width="width",
        area="inf if leak > 0 else 1",
        support="abs(u) <= width or leak > 0",
        offers={"PiecewiseLeakyReLU": "neurai_surrogates.shapes.piecewise_leaky_relu:PiecewiseLeakyReLU"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.shapes.piecewise_leaky_relu:PiecewiseLeakyReLU.build",
)

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
        offers={"LogTailedReLU": "neurai_surrogates.shapes.log_tailed_relu:LogTailedReLU"},
        references=cited(__name__, "cai2017deep"),
    ),
    "neurai_surrogates.shapes.log_tailed_relu:LogTailedReLU.build",
)

s2nn = Plugin(
    SurrogateSpec(
        name="s2nn",
        summary="S2NN: the logistic density below the threshold, 1/(u + 1) above it.",
        config=S2NNConfig,
        derivative=(
            r"\begin{cases} \alpha \sigma(\alpha u) \sigma(-\alpha u) & u < 0 \\"
            r" \frac{\beta}{u + 1} & \text{otherwise} \end{cases}"
        ),
        primitive=(
            r"\begin{cases} \sigma(\alpha u) & u < 0 \\"
            r" \frac{1}{2} + \beta \ln\left(u + 1\right) & \text{otherwise} \end{cases}"
        ),
        width="alpha",
        area="inf",
        symmetry="none",
        offers={"S2NN": "neurai_surrogates.shapes.s2nn:S2NN"},
        references=cited(__name__, "suetake2022s2nn"),
    ),
    "neurai_surrogates.shapes.s2nn:S2NN.build",
)

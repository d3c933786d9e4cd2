"""Settings and spec of `onesidedwindow`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class OneSidedWindowConfig(Config):
    """Settings of `onesidedwindow`."""

    window: float = Field(0.5, gt=0, description="distance below the threshold at which the derivative starts")
    spiking: Spiking = True


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
        offers={"OneSidedWindow": "neurai_surrogates.one_sided_window.shape:OneSidedWindow"},
        references=cited(__name__, "sinabs"),
    ),
    "neurai_surrogates.one_sided_window.shape:OneSidedWindow.build",
)

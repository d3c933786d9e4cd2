"""Settings and spec of `straightthrough`, free of JAX."""

from __future__ import annotations

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class StraightThroughConfig(Config):
    """Settings of `straightthrough`."""

    spiking: Spiking = True


straightthrough = Plugin(
    SurrogateSpec(
        name="straightthrough",
        summary="StraightThrough: the gradient passes unchanged.",
        config=StraightThroughConfig,
        claims=("unimodal",),
        derivative="1",
        primitive="u",
        area="inf",
        offers={"StraightThrough": "neurai_surrogates.straight_through.shape:StraightThrough"},
        references=cited(__name__, "bengio2013estimating"),
    ),
    "neurai_surrogates.straight_through.shape:StraightThrough.build",
)

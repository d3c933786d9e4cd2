"""Settings and spec of `sparsefastsigmoid`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SparseFastSigmoidConfig(Config):
    """Settings of `sparsefastsigmoid`."""

    alpha: float = Field(25.0, gt=0, description="slope of the fast sigmoid, per unit of u")
    window: float = Field(1.0, gt=0, description="distance from the threshold beyond which the derivative is 0")
    spiking: Spiking = True


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
        offers={"SparseFastSigmoid": "neurai_surrogates.sparse_fast_sigmoid.shape:SparseFastSigmoid"},
        references=cited(__name__, "perez2021sparse"),
    ),
    "neurai_surrogates.sparse_fast_sigmoid.shape:SparseFastSigmoid.build",
)

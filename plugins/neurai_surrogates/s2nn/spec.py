"""Settings and spec of `s2nn`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class S2NNConfig(Config):
    """Settings of `s2nn`."""

    alpha: float = Field(4.0, gt=0, description="slope of the logistic function below the threshold, per unit of u")
    beta: float = Field(1.0, gt=0, description="derivative at the threshold; above it, it falls as 1/(u + 1)")
    spiking: Spiking = True


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
        offers={"S2NN": "neurai_surrogates.s2nn.shape:S2NN"},
        references=cited(__name__, "suetake2022s2nn"),
    ),
    "neurai_surrogates.s2nn.shape:S2NN.build",
)

"""Settings and spec of `multilevelcount`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class MultiLevelCountConfig(Config):
    """Settings of `multilevelcount`."""

    spacing: float = Field(1.0, gt=0, description="distance between levels, in units of u: the threshold")
    levels: int = Field(4, ge=1, le=255, description="most spikes per step")
    spiking: Spiking = True


multilevelcount = Plugin(
    SurrogateSpec(
        name="multilevelcount",
        summary="MultiLevelCount: one spike for every level passed; a window over all levels backward.",
        config=MultiLevelCountConfig,
        claims=("compact", "counted"),
        derivative=(
            r"\begin{cases} \frac{1}{d} & -\frac{d}{2} < u < \left(n - \frac{1}{2}\right) d \\"
            r" 0 & \text{otherwise} \end{cases}"
        ),
        primitive=r"\operatorname{clip}\left(\frac{u}{d} + \frac{1}{2}, 0, n\right)",
        letters={"d": "spacing", "n": "levels"},
        width="spacing",
        area="levels",
        support="-spacing / 2 < u < (levels - 1 / 2) * spacing",
        symmetry="none",
        offers={"MultiLevelCount": "neurai_surrogates.multi_level_count.shape:MultiLevelCount"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.multi_level_count.shape:MultiLevelCount.build",
)

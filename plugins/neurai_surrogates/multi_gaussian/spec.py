"""Settings and spec of `multigaussian`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class MultiGaussianConfig(Config):
    """Settings of `multigaussian`; ``hight`` is spelled as it is documented."""

    lens: float = Field(
        0.5,
        gt=0,
        description="standard deviation of the central lobe and distance to the side lobes, in units of u",
    )
    scale: float = Field(6.0, gt=0, description="standard deviation of a side lobe divided by that of the central one")
    hight: float = Field(0.15, ge=0, lt=1, description="weight of one negative side lobe")
    spiking: Spiking = True


multigaussian = Plugin(
    SurrogateSpec(
        name="multigaussian",
        summary="MultiGaussian: a central lobe and two wide negative side lobes.",
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
        offers={"MultiGaussian": "neurai_surrogates.multi_gaussian.shape:MultiGaussian"},
        references=cited(__name__, "yin2021accurate"),
    ),
    "neurai_surrogates.multi_gaussian.shape:MultiGaussian.build",
)

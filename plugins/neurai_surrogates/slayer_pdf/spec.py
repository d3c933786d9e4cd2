"""Settings and spec of `slayerpdf`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SlayerPdfConfig(Config):
    """Settings of `slayerpdf`."""

    scale: float = Field(1.0, gt=0, description="area under the derivative")
    tau: float = Field(
        10.0,
        gt=0,
        description="decay length, in units of u; the default is nearly flat for thresholds near 1",
    )
    spiking: Spiking = True


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
        offers={"SlayerPdf": "neurai_surrogates.slayer_pdf.shape:SlayerPdf"},
        references=cited(__name__, "shrestha2018slayer"),
    ),
    "neurai_surrogates.slayer_pdf.shape:SlayerPdf.build",
)

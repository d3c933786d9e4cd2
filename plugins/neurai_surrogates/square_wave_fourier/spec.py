"""Settings and spec of `squarewavefourier`, free of JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import Config, SurrogateSpec
from neurai_surrogates.settings import Spiking


class SquareWaveFourierConfig(Config):
    """Settings of `squarewavefourier`."""

    period: float = Field(8.0, gt=0, description="period of the square wave, in units of u; peak 4 terms/period")
    terms: int = Field(2, ge=1, le=64, description="terms of the Fourier series")
    spiking: Spiking = True


squarewavefourier = Plugin(
    SurrogateSpec(
        name="squarewavefourier",
        summary="SquareWaveFourier: the first terms of the Fourier series of a square wave; signed, periodic.",
        config=SquareWaveFourierConfig,
        claims=("signed",),
        derivative=r"\frac{4}{T} \sum_{i=1}^{n} \cos\left(\frac{2 \pi (2 i - 1) u}{T}\right)",
        primitive=(
            r"\frac{1}{2} + \frac{2}{\pi} \sum_{i=1}^{n}"
            r" \frac{1}{2 i - 1} \sin\left(\frac{2 \pi (2 i - 1) u}{T}\right)"
        ),
        letters={"T": "period", "n": "terms"},
        width="period",
        offers={"SquareWaveFourier": "neurai_surrogates.square_wave_fourier.shape:SquareWaveFourier"},
        references=cited(__name__, "fang2023spikingjelly"),
    ),
    "neurai_surrogates.square_wave_fourier.shape:SquareWaveFourier.build",
)

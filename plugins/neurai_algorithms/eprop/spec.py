"""The name, settings and facts of e-prop, without JAX; its mathematics is in `eprop`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference


class EPropConfig(Config):
    """Settings of e-prop."""

    feedback: Literal["symmetric", "random"] = Field(
        "symmetric",
        description="weights that carry the errors back: symmetric, those of the readout; random, drawn once and kept",
    )


eprop = Plugin(
    AlgorithmSpec(
        name="eprop",
        summary="E-prop: eligibility traces that run forward in time, met by a learning signal; for spiking networks.",
        config=EPropConfig,
        needs="callable",
        claims=("local", "spiking"),
        definition="neurai_algorithms.eprop.equations:definition",
        offers={"EProp": "neurai_algorithms.eprop.api:EProp"},
        references=(
            Reference(
                title="A solution to the learning dilemma for recurrent networks of spiking neurons",
                authors="Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, Darjan "
                "and Legenstein, Robert and Maass, Wolfgang",
                year=2020,
                doi="10.1038/s41467-020-17236-y",
                bibtex=(
                    "@article{bellec2020solution,\n"
                    "  title   = {A solution to the learning dilemma for recurrent networks of spiking neurons},\n"
                    "  author  = {Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and\n"
                    "             Salaj, Darjan and Legenstein, Robert and Maass, Wolfgang},\n"
                    "  journal = {Nature Communications},\n  volume  = {11},\n  pages   = {3625},\n"
                    "  year    = {2020},\n  doi     = {10.1038/s41467-020-17236-y}\n}"
                ),
            ),
        ),
    ),
    "neurai_algorithms.eprop.rule:build",
)

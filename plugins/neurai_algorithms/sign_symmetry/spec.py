"""The name, settings and facts of sign-symmetry, without JAX; its mathematics is in `rule`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant


class SignSymmetryConfig(Config):
    """Settings of sign-symmetry."""

    magnitude: Literal["uniform", "fixed", "batch"] = Field(
        "uniform",
        description="sizes of the feedback weights of a layer: uniform, all the same; fixed, drawn once and kept; "
        "batch, drawn for every batch",
    )
    scale: float = Field(
        1.0, gt=0, description="mean size of the feedback weights of a layer, in units of that of its forward weights"
    )


sign_symmetry = Plugin(
    AlgorithmSpec(
        name="sign-symmetry",
        summary="Sign-symmetry: errors travel back through weights that share only the signs of the forward weights.",
        config=SignSymmetryConfig,
        needs="network",
        claims=("precise",),
        variants=(
            Variant(settings={"magnitude": "fixed"}, claims=("stateful",)),
            Variant(settings={"magnitude": "batch"}, claims=("stochastic",)),
        ),
        definition="neurai_algorithms.sign_symmetry.equations:definition",
        references=cited(__name__, "liao2016important"),
    ),
    "neurai_algorithms.sign_symmetry.rule:build",
)

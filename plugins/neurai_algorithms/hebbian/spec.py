"""The settings and the spec of Hebbian learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant


class HebbianConfig(Config):
    """Settings of Hebbian learning."""

    mode: Literal["sanger", "oja", "subspace"] = Field(
        "sanger",
        description="what a unit makes room for: sanger, the units before it, so that units find the principal "
        "components in order; oja, no other unit, so that every unit finds the first; subspace, all units",
    )


hebbian = Plugin(
    AlgorithmSpec(
        name="hebbian",
        summary="Hebbian learning of principal components, by Oja's and Sanger's rules; without labels.",
        config=HebbianConfig,
        needs="layered",
        claims=("local", "unsupervised"),
        variants=(
            Variant(settings={"mode": "oja"}, claims=("local", "unsupervised")),
            Variant(settings={"mode": "subspace"}, claims=("local", "unsupervised")),
        ),
        defaults={"model": "mlp:32", "optimizer": "sgd", "lr": 0.05},
        own_loss="reconstruction error",
        no_alignment="it learns from inputs alone, and back-propagation would need a loss of targets",
        definition="neurai_algorithms.hebbian.equations:definition",
        references=cited(__name__, "sanger1989optimal", "oja1982simplified", "oja1989neural"),
    ),
    "neurai_algorithms.hebbian.rule:build",
)

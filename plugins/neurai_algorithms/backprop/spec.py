"""The spec of back-propagation."""

from __future__ import annotations

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config


class BackpropConfig(Config):
    """Back-propagation has no settings."""


bp = Plugin(
    AlgorithmSpec(
        name="bp",
        summary="Back-propagation: the gradient of the feed-forward loss by the chain rule.",
        config=BackpropConfig,
        needs="callable",
        claims=("exact", "precise"),
        definition="neurai_algorithms.backprop.equations:definition",
        offers={"BP": "neurai_algorithms.backprop.api:BP"},
        references=cited(__name__, "rumelhart1986learning"),
    ),
    "neurai_algorithms.backprop.rule:build",
)

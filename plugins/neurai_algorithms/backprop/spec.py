"""The spec of back-propagation."""

from __future__ import annotations

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference


class BackpropConfig(Config):
    """Back-propagation has no settings."""


bp = Plugin(
    AlgorithmSpec(
        name="bp",
        summary="Back-propagation: the gradient of the feed-forward loss by the chain rule.",
        config=BackpropConfig,
        needs="callable",
        claims=("exact",),
        definition="neurai_algorithms.backprop.equations:definition",
        offers={"BP": "neurai_algorithms.backprop.api:BP"},
        references=(
            Reference(
                title="Learning representations by back-propagating errors",
                authors="Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.",
                year=1986,
                doi="10.1038/323533a0",
                bibtex=(
                    "@article{rumelhart1986learning,\n"
                    "  title   = {Learning representations by back-propagating errors},\n"
                    "  author  = {Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.},\n"
                    "  journal = {Nature},\n  volume  = {323},\n  pages   = {533--536},\n  year    = {1986},\n"
                    "  doi     = {10.1038/323533a0}\n}"
                ),
            ),
        ),
    ),
    "neurai_algorithms.backprop.rule:build",
)

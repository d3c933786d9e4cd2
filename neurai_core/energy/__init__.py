"""Energies of activities, on which relaxing rules descend, and their couplings from a chain of layers.

A network is a `Chain` of `Block`s: block l maps the layer below to a pre-activation, ``map_l(params, .)``, and ends in
an elementwise ``rho``. The activities ``u_1 .. u_L`` are the pre-activations, ``u_0 = x`` is clamped.
An `Energy` gives every example a scalar E(u). A new one only needs `Energy.value`; gradients then come from automatic
differentiation, and may be overridden in closed form.
"""

from __future__ import annotations

from neurai_core.energy.blocks import Activities, Block, Chain, chain_of, groups_of
from neurai_core.energy.couplings import Coupled, adjoint
from neurai_core.energy.energies import Energy, nudged, on_columns
from neurai_core.energy.per_example import dot, half_squares

__all__ = [  # noqa: RUF022 - in the order of the page
    "Activities",
    "Block",
    "Chain",
    "chain_of",
    "groups_of",
    "Energy",
    "Coupled",
    "on_columns",
    "nudged",
    "half_squares",
    "dot",
    "adjoint",
]

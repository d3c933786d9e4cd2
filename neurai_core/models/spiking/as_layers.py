"""The stages of a spiking network as layers, whose activities are whole sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax

from neurai_core.arrays import PyTree, Shape
from neurai_core.layered import Layer, Layered

if TYPE_CHECKING:
    from neurai_core.models.spiking.network import SpikingNetwork


def stages_as_layers(network: SpikingNetwork) -> Layered:
    """One layer per stage: the first one encodes, the last one reads out."""
    last = len(network.stages) - 1
    return Layered(tuple(_stage_layer(network, index, index == last) for index in range(last + 1)))


@dataclass(frozen=True)
class _StageInit:
    network: SpikingNetwork  # of this stage alone
    first: bool

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        if self.first:
            (params,), states = self.network.init(key, input_shape)
            return params, states[0] if states else ()
        return self.network.stages[0].init(key, tuple(input_shape)[1:])


@dataclass(frozen=True)
class _StageApply:
    network: SpikingNetwork

    def __call__(
        self, params: PyTree, model_state: PyTree, x: jax.Array, *, key: Any = None, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        states = () if model_state == () else (model_state,)
        outputs, states = self.network.apply((params,), states, x, train=train)  # a rate code draws from its seed
        return outputs, model_state if states == () else states[0]


def _stage_layer(network: SpikingNetwork, index: int, last: bool) -> Layer:
    stage = network.stages[index]
    hoist = (network.hoist[index],) if isinstance(network.hoist, tuple) else network.hoist
    alone = replace(
        network,
        stages=(stage,),
        readout=network.readout if last else "all",
        encode=network.encode if index == 0 else None,
        record=False,
        hoist=hoist,
    )
    name = f"spiking({stage.synapse.name})"
    return Layer(_StageInit(alone, index == 0), _StageApply(alone), name=name, stateful=stage.synapse.stateful)

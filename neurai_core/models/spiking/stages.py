"""One stage of a spiking network: a layer of synapses, the neurons they charge, and their recurrent weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, default_float
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, output_shape
from neurai_core.models.spiking.cells import Cell, State


class Past(NamedTuple):
    """The state of a stage between two steps.

    Attributes:
        rest: the neurons' state after the reset.
        spikes: their spikes, for recurrent synapses; ``()`` without.
    """

    rest: State
    spikes: Any


@dataclass(frozen=True)
class Stage:
    """Synapses and the neurons they charge.

    Args:
        synapse: a layer of `neurai_core.layered` that turns the spikes below into currents, such as
            ``dense(128)``, ``conv(16, 3)`` or ``block(avg_pool(2), flatten(), dense(10))``; it is applied to
            every step in the same way.
        cell: the neurons: `LIF`, `ALIF` or `Leaky`.
        recurrent: whether each neuron's spike reaches every neuron of the stage in the next step.
        detach_recurrent: whether the gradient ignores that path (the recurrent weights still learn), as in
            e-prop.

    Raises:
        ModelError: the synapses draw random numbers or carry a state.

    Example:
        >>> from neurai_core.layered import dense
        >>> from neurai_core.models.spiking import LIF
        >>> stage = Stage(dense(3), LIF(), recurrent=True)
        >>> jax.tree.map(jnp.shape, stage.init(jax.random.key(0), (5,)))
        {'cell': {}, 'input': {'b': (3,), 'w': (5, 3)}, 'recurrent': (3, 3)}
    """

    synapse: Layer
    cell: Cell
    recurrent: bool = False
    detach_recurrent: bool = False

    def __post_init__(self) -> None:
        if self.synapse.stochastic or self.synapse.stateful:
            what = "draws random numbers" if self.synapse.stochastic else "carries a state"
            raise ModelError(
                f"The synapses {self.synapse.name} of a spiking stage {what}, expected a fixed function of the spikes.",
                "Use dense, conv, pooling or flatten layers.",
            )

    def init(self, key: jax.Array, input_shape: Shape) -> dict[str, PyTree]:
        """Parameters ``{"input": ..., "cell": {...}}``, with ``"recurrent"`` (N, N), of variance 1/N, if it is.

        Raises:
            ModelError: recurrent neurons have more than one axis.
        """
        params, _ = self.synapse.init(key, input_shape)
        shape = output_shape(self.synapse, params, (), input_shape)
        made = {"input": params, "cell": self.cell.init(shape)}
        return made | {"recurrent": self._recurrent(key, shape)} if self.recurrent else made

    def start(self, shape: Shape, dtype: Any) -> Past:
        """The state before the first step, for a batch of ``shape`` neurons."""
        return Past(self.cell.rest(shape, dtype), jnp.zeros(shape, dtype) if self.recurrent else ())

    def project(self, params: PyTree, below: jax.Array) -> jax.Array:
        """Currents for any number of leading axes, ``(..., D) -> (..., N)``, folded into the batch axis."""
        current: jax.Array = self.synapse.apply(params["input"], (), below)[0]
        return current

    def charge(self, params: PyTree, past: Past, current: jax.Array) -> State:
        """The state before the reset, from the current of the synapses below."""
        if self.recurrent:
            spikes = jax.lax.stop_gradient(past.spikes) if self.detach_recurrent else past.spikes
            current = current + spikes @ params["recurrent"]
        return self.cell.charge(params["cell"], past.rest, current)

    def output(self, params: PyTree, surrogate: Any, before: State) -> jax.Array:
        """Spikes, or the potential of a readout."""
        return self.cell.output(params["cell"], surrogate, before)

    def fire(self, params: PyTree, surrogate: Any, before: State) -> tuple[jax.Array, Past]:
        """The output and the next state."""
        spikes = self.output(params, surrogate, before)
        rest = self.cell.settle(params["cell"], before, spikes)
        return spikes, Past(rest, spikes if self.recurrent else ())

    def _recurrent(self, key: jax.Array, shape: Shape) -> jax.Array:
        if len(shape) != 1:
            raise ModelError(
                f"A recurrent stage has its neurons in one axis, got {shape} from {self.synapse.name}.",
                "Use block(conv(...), flatten()), or dense synapses.",
            )
        (n,) = shape
        return jax.random.normal(jax.random.fold_in(key, 1), (n, n), default_float()) / math.sqrt(n)

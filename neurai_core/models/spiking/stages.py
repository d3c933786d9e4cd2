"""One stage of a spiking network: a layer of synapses, the neurons they charge, and their recurrent weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, default_float
from neurai_core.errors import ModelError
from neurai_core.layered import ChainApply, Layer, MaxPool, joins, mean_pooled, output_shape
from neurai_core.models.spiking.cells import Cell, State

Places: TypeAlias = tuple[jax.Array, ...]  # one array for every max pooling in the synapses


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
            ``dense(128)``, ``block(conv(16, 3), max_pool(2))`` or ``block(flatten(), dense(10))``; it is applied to
            every step in the same way. With `batch_norm`, it is always applied to all steps at once: in training,
            means and variances are those of all examples in all steps.
        cell: the neurons: `LIF`, `ALIF` or `Leaky`.
        recurrent: whether each neuron's spike reaches every neuron of the stage in the next step.
        detach_recurrent: whether the gradient ignores that path (the recurrent weights still learn), as in
            e-prop.

    Raises:
        ModelError: the synapses draw random numbers.

    Example:
        >>> from neurai_core.layered import dense
        >>> from neurai_core.models.spiking import LIF
        >>> stage = Stage(dense(3), LIF(), recurrent=True)
        >>> params, _ = stage.init(jax.random.key(0), (5,))
        >>> jax.tree.map(jnp.shape, params)
        {'cell': {}, 'input': {'b': (3,), 'w': (5, 3)}, 'recurrent': (3, 3)}
    """

    synapse: Layer
    cell: Cell
    recurrent: bool = False
    detach_recurrent: bool = False

    def __post_init__(self) -> None:
        if self.synapse.stochastic:
            raise ModelError(
                f"The synapses {self.synapse.name} of a spiking stage draw random numbers, expected a fixed function "
                "of the spikes.",
                "Use dense, conv, pooling, batch_norm or flatten layers.",
            )

    def init(self, key: jax.Array, input_shape: Shape) -> tuple[dict[str, PyTree], PyTree]:
        """Parameters ``{"input": ..., "cell": {...}}``, with ``"recurrent"`` (N, N), of variance 1/N, if it is.

        Returns:
            Them and the collections of the synapses, ``()`` without.

        Raises:
            ModelError: recurrent neurons have more than one axis.
        """
        params, model_state = self.synapse.init(key, input_shape)
        shape = output_shape(self.synapse, params, model_state, input_shape)
        made = {"input": params, "cell": self.cell.init(shape)}
        made |= {"recurrent": self._recurrent(key, shape)} if self.recurrent else {}
        return made, model_state

    def start(self, shape: Shape, dtype: Any) -> Past:
        """The state before the first step, for a batch of ``shape`` neurons."""
        return Past(self.cell.rest(shape, dtype), jnp.zeros(shape, dtype) if self.recurrent else ())

    def project(self, params: PyTree, below: jax.Array, model_state: PyTree = ()) -> jax.Array:
        """The currents of a batch, ``(B, D) -> (B, N)``; batch norm takes its running statistics."""
        return self.projected(params, model_state, below)[0]

    def projected(
        self, params: PyTree, model_state: PyTree, below: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """The currents of a batch, and the collections, updated in training."""
        if not self.synapse.stateful:
            return self.project_and_note(params, below)[0], model_state
        current, model_state = self.synapse.apply(params["input"], model_state, below, train=train)
        return current, model_state

    def project_and_note(self, params: PyTree, below: jax.Array) -> tuple[jax.Array, Places]:
        """`project`, and where max pooling found its maxima."""
        return _through(self.synapse, params["input"], below, None)

    def project_by(self, params: PyTree, below: jax.Array, places: Places) -> jax.Array:
        """`project` with known places, by which max pooling is linear: its derivative needs no convolution."""
        return _through(self.synapse, params["input"], below, iter(places))[0]

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


def _pooling(layer: Layer, x: jax.Array) -> MaxPool | None:
    """The max pooling of a layer, if it is one whose maxima have places."""
    function = getattr(layer.apply, "function", None)
    return function if isinstance(function, MaxPool) and x.ndim == 4 and function.side_by_side(x) else None


def _flat(layer: Layer, own: PyTree) -> list[tuple[Layer, PyTree]]:
    """The layers of a chain of chains, with their parameters."""
    if not isinstance(layer.apply, ChainApply) or layer.apply.skip:
        return [(layer, own)]
    return [inner for pair in zip(layer.apply.model.layers, own, strict=True) for inner in _flat(*pair)]


def _through(synapse: Layer, own: PyTree, x: jax.Array, known: Iterator[jax.Array] | None) -> tuple[jax.Array, Places]:
    """The currents, and the places of maxima; with known places, their entries."""
    left, places = _flat(synapse, own), []
    while left:
        layer, weights = left.pop(0)
        pool = _pooling(layer, x)
        if left and joins(layer, left[0][0], weights, x):
            x = mean_pooled(layer, left.pop(0)[0], weights, x)
        elif pool is not None and known is not None:
            x = pool.picked(weights, x, next(known))
        else:
            places += [] if pool is None else [pool.places(x)]
            x = layer.apply(weights, (), x)[0]
    return x, tuple(places)

r"""Pairs of spikes before and behind a synapse, counted with exponential weights by two traces per neuron.

$$P_{ij} = \sum_t x_i^t s_j^t \qquad D_{ij} = \sum_t s_i^t \, e^{-1/\tau_-} \, y_j^{t-1}$$

with the trace $x_i$ of the spikes that arrive and $y_j$ of those that are fired. Both are sums over all pairs: in P,
the input came first or at once; in D, it came last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.spiking_stages import is_dense
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.models.spiking import LIF, Constant, SpikingNetwork, Stage


class Window(NamedTuple):
    """The time constants of pairs in which the input came first, and of those in which it came last, in steps."""

    tau_plus: Any
    tau_minus: Any


class Sums(NamedTuple):
    """Sums over pairs of spikes, (I, J) each: those that let weights grow, and those that let them shrink."""

    grow: jax.Array
    shrink: jax.Array


class Pairs(NamedTuple):
    """Of the synapses from the stage below, and from the own stage (() if it is not recurrent)."""

    input: Sums
    own: Any


class _Followed(NamedTuple):
    """What a stage carries from step to step.

    Attributes:
        past: its own state.
        spikes: its spikes of the step before (B, N).
        below: trace of the spikes that arrive from below (B, D).
        own: trace of those that arrive from the own stage (B, N).
        fired: trace of those that it fires (B, N).
        pairs: sums so far, or None for a stage that does not fire.
    """

    past: Any
    spikes: jax.Array
    below: jax.Array
    own: jax.Array
    fired: jax.Array
    pairs: Pairs | None


def count_pairs(
    window: Window, model: SpikingNetwork, params: PyTree, sequence: jax.Array, factors: jax.Array | None = None
) -> list[Pairs | None]:
    """The sums over pairs of every stage, as means over examples; None for a stage that does not fire.

    Args:
        window: how pairs are weighted.
        model: the network.
        params: its parameters.
        sequence: what its first stage sees, (B, T, D).
        factors: of every step and example, (T, B), for the pairs that the step completes; without them, 1.
    """
    begin, below = [], sequence[:, 0]
    for stage, past in zip(model.stages, model.start(params, below), strict=True):
        neurons = jnp.zeros_like(past.rest["v"])
        zeros = jnp.zeros((below.shape[1], neurons.shape[1]), neurons.dtype)
        square = jnp.zeros((neurons.shape[1],) * 2, neurons.dtype)
        pairs = Pairs(Sums(zeros, zeros), Sums(square, square) if stage.recurrent else ())
        fires = pairs if stage.cell.spikes else None
        begin.append(_Followed(past, neurons, jnp.zeros_like(below), neurons, neurons, fires))
        below = neurons

    def step(at: tuple[tuple[_Followed, ...], jax.Array], _: None) -> tuple[Any, None]:
        stages, t = at
        below, after = jax.lax.dynamic_index_in_dim(sequence, t, 1, keepdims=False), []
        for stage, own, one in zip(model.stages, params, stages, strict=True):
            charged = stage.charge(own, one.past, stage.project(own, below))
            spikes, past = stage.fire(own, model.surrogate, charged)
            factor = None if factors is None else factors[t, :, None]
            after.append(_paired(window, stage, one._replace(past=past), below, spikes, factor))
            below = spikes
        return (tuple(after), t + 1), None

    (ended, _), _ = jax.lax.scan(step, (tuple(begin), jnp.zeros((), int)), length=sequence.shape[1])
    return [jax.tree.map(lambda total: total / len(sequence), one.pairs) for one in ended]


def _paired(
    window: Window, stage: Stage, one: _Followed, below: jax.Array, spikes: jax.Array, factor: Any
) -> _Followed:
    """A stage after a step: spikes that have just arrived or been fired meet the traces of the others."""
    if one.pairs is None:
        return one
    keep = jnp.exp(-1 / jnp.asarray(window.tau_plus, below.dtype))
    faded = jnp.exp(-1 / jnp.asarray(window.tau_minus, below.dtype)) * one.fired
    arrived, of_own = keep * one.below + below, keep * one.own + one.spikes
    behind = (spikes, faded) if factor is None else (factor * spikes, factor * faded)
    own = _met(one.pairs.own, of_own, one.spikes, *behind) if stage.recurrent else ()
    pairs = Pairs(_met(one.pairs.input, arrived, below, *behind), own)
    return _Followed(one.past, spikes, arrived, of_own, faded + spikes, pairs)


def _met(sums: Sums, arrived: jax.Array, arriving: jax.Array, fired: jax.Array, faded: jax.Array) -> Sums:
    return Sums(sums.grow + arrived.T @ fired, sums.shrink + arriving.T @ faded)


def check_pairs(rule: str, model: Any) -> None:
    """Check that a network has spikes to pair.

    Raises:
        ModelError: it has not; names the part that does not fit.
    """
    hint = "--model snn:100,rate is such a network."
    if not isinstance(model, SpikingNetwork):
        raise ModelError(f"{rule} trains a SpikingNetwork, got a {type(model).__name__}.", hint)
    if not any(isinstance(stage.cell, LIF) for stage in model.stages):
        raise ModelError(f"{rule} pairs spikes, and no stage of the network fires.", hint)
    if isinstance(model.encode, Constant):
        raise ModelError(
            f"{rule} pairs spikes, and encode='constant' shows the same numbers at every step.",
            "Encode by rate or latency, such as --model snn:100,rate.",
        )
    for index, stage in enumerate(model.stages):
        if isinstance(stage.cell, LIF) and not is_dense(stage):
            raise ModelError(f"{rule} needs dense synapses, and stage {index} has {stage.synapse.name}.", hint)

r"""Pairs of spikes before and behind a synapse, counted with exponential weights by two traces per neuron.

$$P_{ij} = \sum_t x_i^t s_j^t \qquad D_{ij} = \sum_t s_i^t \, e^{-1/\tau_-} \, y_j^{t-1}$$

with the trace $x_i$ of the spikes that arrive and $y_j$ of those that are fired. Both are sums over all pairs: in P,
the input came first or at once; in D, it came last.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.spiking_stages import is_dense
from neurai_algorithms.time_chunks import chunk_length, chunk_of, flat, folded, over_chunks
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
    """

    past: Any
    spikes: jax.Array
    below: jax.Array
    own: jax.Array
    fired: jax.Array


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
    begin, below, steps = [], sequence[:, 0], sequence.shape[1]
    length = chunk_length(steps)
    for stage, past in zip(model.stages, model.start(params, below), strict=True):
        neurons = jnp.zeros_like(past.rest["v"])
        zeros = jnp.zeros((below.shape[1], neurons.shape[1]), neurons.dtype)
        square = jnp.zeros((neurons.shape[1],) * 2, neurons.dtype)
        pairs = Pairs(Sums(zeros, zeros), Sums(square, square) if stage.recurrent else ())
        followed = _Followed(past, neurons, jnp.zeros_like(below), neurons, neurons)
        begin.append((followed, pairs if stage.cell.spikes else None))
        below = neurons

    def chunk(stages: Any, index: jax.Array) -> Any:
        below, after = chunk_of(sequence, index, length), []
        factor = None if factors is None else chunk_of(factors.T, index, length)[..., None]
        for stage, own, (one, pairs) in zip(model.stages, params, stages, strict=True):
            one, (spikes, *met) = _followed(window, stage, model.surrogate, own, one, below)
            after.append((one, None if pairs is None else _met(pairs, factor, below, spikes, *met)))
            below = spikes
        return tuple(after)

    ended = over_chunks(chunk, tuple(begin), steps // length)
    return [jax.tree.map(lambda total: total / len(sequence), pairs) for _, pairs in ended]


def _followed(
    window: Window, stage: Stage, surrogate: Any, own: PyTree, one: _Followed, below: jax.Array
) -> tuple[_Followed, tuple[jax.Array, ...]]:
    """A stage after a chunk of steps; at each of them, its spikes, those before, and the traces that they meet."""
    keep = jnp.exp(-1 / jnp.asarray(window.tau_plus, below.dtype))
    fade = jnp.exp(-1 / jnp.asarray(window.tau_minus, below.dtype))

    def step(one: _Followed, now: tuple[jax.Array, jax.Array]) -> tuple[_Followed, tuple[jax.Array, ...]]:
        current, arriving = now
        spikes, past = stage.fire(own, surrogate, stage.charge(own, one.past, current))
        arrived, of_own, faded = keep * one.below + arriving, keep * one.own + one.spikes, fade * one.fired
        recurrent = (one.spikes, of_own) if stage.recurrent else ()
        return _Followed(past, spikes, arrived, of_own, faded + spikes), (spikes, arrived, faded, *recurrent)

    return jax.lax.scan(step, one, (folded(partial(stage.project, own), below), below))


def _met(
    pairs: Pairs, factor: Any, below: jax.Array, spikes: jax.Array, arrived: jax.Array, faded: jax.Array, *own: Any
) -> Pairs:
    """The sums with the pairs of a chunk: spikes that arrived or were fired meet the traces of the others."""
    behind = (spikes, faded) if factor is None else (factor * spikes, factor * faded)

    def added(sums: Sums, arriving: jax.Array, trace: jax.Array) -> Sums:
        grow, shrink = (flat(a).T @ flat(b) for a, b in zip((trace, arriving), behind, strict=True))
        return Sums(sums.grow + grow, sums.shrink + shrink)

    return Pairs(added(pairs.input, below, arrived), added(pairs.own, *own) if own else ())


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

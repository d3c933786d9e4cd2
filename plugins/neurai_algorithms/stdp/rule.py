r"""STDP by two traces per neuron: of the spikes that arrive, $x_i$, and of those that are fired, $y_j$.

$$P_{ij} = \sum_t x_i^t s_j^t \qquad D_{ij} = \sum_t s_i^t e^{-1/\tau_-} y_j^{t-1} \qquad
  \Delta w_{ij} = F_+ P_{ij} - F_- D_{ij}$$

with the sums over pairs in the traces. At given spikes, this is the slope of $E = \frac12 (a_+ P + a_- D) (w - w^*)^2$
with soft bounds, where $w^* = w_{max} a_+ P / (a_+ P + a_- D)$ is the weight at which growth and loss balance, and of
$E = -w (a_+ P - a_- D)$ without bounds. E is what the rule reports as its loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.spiking_stages import is_dense
from neurai_algorithms.stdp.spec import STDPConfig
from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import DataError, ModelError
from neurai_core.models.spiking import LIF, Constant, SpikingNetwork, Stage
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict


def build(config: STDPConfig, **context: Any) -> Rule:
    """The rule "STDP", which predicts the outputs of the network.

    Args:
        config: the validated settings.
        **context: not used: no target enters.
    """

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model)
        return feedforward_init(model, params, key=key, model_state=model_state)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)
        x = _inputs(batch)
        grads, energies = [], []
        for own, pairs in zip(params, _pairs(config, model, params, x, key), strict=True):
            made = jax.tree.map(jnp.zeros_like, own)
            if pairs is not None:
                made["input"]["w"], energy = _slope(config, own["input"]["w"], pairs.input)
                energies.append(energy)
            if pairs is not None and "recurrent" in own:
                made["recurrent"], energy = _slope(config, own["recurrent"], pairs.own)
                energies.append(energy)
            grads.append(made)
        return Estimate(tuple(grads), jnp.sum(jnp.stack(energies)), jnp.asarray(-1.0), {}), state

    return Rule(init, estimate, feedforward_predict)


class _Sums(NamedTuple):
    """Sums over pairs of spikes, (I, J) each: those that let weights grow, and those that let them shrink."""

    grow: jax.Array
    shrink: jax.Array


class _Pairs(NamedTuple):
    """Of the synapses from the stage below, and from the own stage (() if it is not recurrent)."""

    input: _Sums
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
    pairs: _Pairs | None


def _pairs(config: STDPConfig, model: SpikingNetwork, params: PyTree, x: jax.Array, key: Any) -> list[Any]:
    """The sums over pairs of every stage, means over examples."""
    sequence = model.sequence(params, x, key=key)
    begin, below = [], sequence[:, 0]
    for stage, past in zip(model.stages, model.start(params, below), strict=True):
        neurons = jnp.zeros_like(past.rest["v"])
        zeros = jnp.zeros((below.shape[1], neurons.shape[1]), neurons.dtype)
        square = jnp.zeros((neurons.shape[1],) * 2, neurons.dtype)
        pairs = _Pairs(_Sums(zeros, zeros), _Sums(square, square) if stage.recurrent else ())
        fires = pairs if stage.cell.spikes else None
        begin.append(_Followed(past, neurons, jnp.zeros_like(below), neurons, neurons, fires))
        below = neurons

    def step(at: tuple[tuple[_Followed, ...], jax.Array], _: None) -> tuple[Any, None]:
        stages, t = at
        below, after = jax.lax.dynamic_index_in_dim(sequence, t, 1, keepdims=False), []
        for stage, own, one in zip(model.stages, params, stages, strict=True):
            charged = stage.charge(own, one.past, stage.project(own, below))
            spikes, past = stage.fire(own, model.surrogate, charged)
            after.append(_paired(config, stage, one._replace(past=past), below, spikes))
            below = spikes
        return (tuple(after), t + 1), None

    (ended, _), _ = jax.lax.scan(step, (tuple(begin), jnp.zeros((), int)), length=sequence.shape[1])
    return [jax.tree.map(lambda total: total / len(x), one.pairs) for one in ended]


def _paired(config: STDPConfig, stage: Stage, one: _Followed, below: jax.Array, spikes: jax.Array) -> _Followed:
    """A stage after a step: spikes that have just arrived or been fired meet the traces of the others."""
    if one.pairs is None:
        return one
    keep = jnp.exp(-1 / jnp.asarray(config.tau_plus, below.dtype))
    faded = jnp.exp(-1 / jnp.asarray(config.tau_minus, below.dtype)) * one.fired
    arrived, of_own = keep * one.below + below, keep * one.own + one.spikes
    own = _met(one.pairs.own, of_own, one.spikes, spikes, faded) if stage.recurrent else ()
    pairs = _Pairs(_met(one.pairs.input, arrived, below, spikes, faded), own)
    return _Followed(one.past, spikes, arrived, of_own, faded + spikes, pairs)


def _met(sums: _Sums, arrived: jax.Array, arriving: jax.Array, fired: jax.Array, faded: jax.Array) -> _Sums:
    return _Sums(sums.grow + arrived.T @ fired, sums.shrink + arriving.T @ faded)


def _slope(config: STDPConfig, w: jax.Array, pairs: _Sums) -> tuple[jax.Array, jax.Array]:
    """-Delta w, and the energy whose slope it is."""
    grow, shrink = config.a_plus * pairs.grow, config.a_minus * pairs.shrink
    if config.bounds == "none":
        return (shrink - grow).astype(w.dtype), jnp.sum(w * (shrink - grow))
    slope = shrink * w - grow * (config.w_max - w)
    total = grow + shrink
    # (w - w*)^2 / 2 times the total, which is 0 where no spikes have met.
    return slope.astype(w.dtype), jnp.sum(slope**2 / jnp.where(total == 0, 1, total)) / 2


def _inputs(batch: PyTree) -> jax.Array:
    x, y = batch
    if not len(x) or len(y) != len(x):
        raise DataError(
            f"A batch has inputs {shape_text(x)} and targets {shape_text(y)}.",
            "Give at least one row; without targets, let y have the shape (B, 0).",
        )
    return jnp.asarray(x)


def _check(model: Any) -> None:
    """Check that a network has spikes to pair.

    Raises:
        ModelError: it has not; names the part that does not fit.
    """
    hint = "--model snn:100,rate is such a network."
    if not isinstance(model, SpikingNetwork):
        raise ModelError(f"STDP trains a SpikingNetwork, got a {type(model).__name__}.", hint)
    if not any(isinstance(stage.cell, LIF) for stage in model.stages):
        raise ModelError("STDP pairs spikes, and no stage of the network fires.", hint)
    if isinstance(model.encode, Constant):
        raise ModelError(
            "STDP pairs spikes, and encode='constant' shows the same numbers at every step.",
            "Encode by rate or latency, such as --model snn:100,rate.",
        )
    for index, stage in enumerate(model.stages):
        if isinstance(stage.cell, LIF) and not is_dense(stage):
            raise ModelError(f"STDP needs dense synapses, and stage {index} has {stage.synapse.name}.", hint)

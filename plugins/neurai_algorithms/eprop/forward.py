"""E-prop forward in time: a second pass in which eligibility traces meet the learning signals of every step.

One trace is kept for every synapse and example. Apart from the readout, memory does not grow with time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from neurai_algorithms.eprop.signals import Feedback, signals_of
from neurai_core.arrays import PyTree
from neurai_core.models.spiking import SpikingNetwork, Stage


def run_forward(
    model: SpikingNetwork, params: PyTree, feedback: Feedback, sequence: jax.Array
) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """Run forward once for the readout; see `signals` for arguments and results."""
    traces = replace(model, encode=None, readout="all")(params, jnp.moveaxis(sequence, 0, 1))

    def grads_of(errors: jax.Array) -> PyTree:
        def step(before: _Carried, at: tuple[jax.Array, jax.Array]) -> tuple[_Carried, None]:
            return _step(model, params, feedback, before, *at), None

        (carried, readout), _ = jax.lax.scan(step, _before_the_first(model, params, sequence[0]), (sequence, errors))
        sums = *(one.grads for one in carried), readout
        return tuple(_as_params(own, total) for own, total in zip(params, sums, strict=True))

    return jnp.moveaxis(traces, 1, 0), grads_of


class _Traces(NamedTuple):
    """What a stage carries from step to step; P is the number of a neuron's incoming weights, including its bias.

    Attributes:
        rest: state of the neurons after the reset, entries (B, N).
        spikes: their spikes, (B, N).
        eligibility: derivative of ``rest`` by every incoming weight, entries (P, B, N).
        grads: sum so far, of the incoming weights (P, N).
    """

    rest: Any
    spikes: jax.Array
    eligibility: Any
    grads: jax.Array


class _Now(NamedTuple):
    """What a stage computes at a step.

    Attributes:
        rest: as in `_Traces`.
        spikes: as in `_Traces`.
        eligibility: as in `_Traces`.
        trace: the eligibility traces, (P, B, N).
        gain: derivative of the spikes by the current, (B, N).
    """

    rest: Any
    spikes: jax.Array
    eligibility: Any
    trace: jax.Array
    gain: jax.Array


_Carried: TypeAlias = tuple[tuple[_Traces, ...], jax.Array]  # of hidden stages; gradient of the readout (N + 1, C)


def _step(
    model: SpikingNetwork, params: PyTree, feedback: Feedback, before: _Carried, x: jax.Array, error: jax.Array
) -> _Carried:
    below, now = x, []
    for stage, own, one in zip(model.stages[:-1], params[:-1], before[0], strict=True):
        now.append(_forward(stage, model.surrogate, own, one, below))
        below = now[-1].spikes
    signals = signals_of(params, feedback, error, [one.gain for one in now])
    traces = tuple(
        _Traces(found.rest, found.spikes, found.eligibility, one.grads + jnp.einsum("bj,pbj->pj", signal, found.trace))
        for one, found, signal in zip(before[0], now, signals, strict=True)
    )
    return traces, before[1] + _with_one(below).T @ error


def _forward(stage: Stage, surrogate: Any, own: PyTree, before: _Traces, below: jax.Array) -> _Now:
    """One step of a stage and of its traces."""

    def neuron(rest: Any, current: jax.Array) -> tuple[jax.Array, Any]:
        state = stage.cell.charge(own["cell"], rest, current)
        spikes = stage.cell.output(own["cell"], surrogate, state)
        return spikes, stage.cell.settle(own["cell"], state, spikes)

    incoming = _incoming(own, below, before.spikes)
    (spikes, rest), derivative = jax.linearize(neuron, before.rest, incoming @ _weights(own))
    by_weight = jnp.broadcast_to(incoming.T[..., None], (*incoming.T.shape, spikes.shape[1]))
    trace, eligibility = jax.vmap(derivative)(before.eligibility, by_weight)
    gain, _ = derivative(jax.tree.map(jnp.zeros_like, before.rest), jnp.ones_like(spikes))
    return _Now(rest, spikes, eligibility, trace, gain)


def _before_the_first(model: SpikingNetwork, params: PyTree, below: jax.Array) -> _Carried:
    (batch, _), dtype, carried = below.shape, below.dtype, []
    for stage, own in zip(model.stages[:-1], params[:-1], strict=True):
        spikes = jnp.zeros((batch, own["input"]["w"].shape[1]), dtype)
        rest = stage.cell.rest(spikes.shape, dtype)
        count = _incoming(own, below, spikes).shape[1]
        eligibility = jax.tree.map(lambda one, count=count: jnp.zeros((count, *one.shape), dtype), rest)
        carried.append(_Traces(rest, spikes, eligibility, jnp.zeros((count, spikes.shape[1]), dtype)))
        below = spikes
    width, outputs = params[-1]["input"]["w"].shape
    return tuple(carried), jnp.zeros((width + 1, outputs), dtype)


def _incoming(own: PyTree, x: jax.Array, spikes: jax.Array) -> jax.Array:
    """Inputs of a neuron, (B, P): the input, 1 for the bias, and the spikes of the stage in the previous step."""
    return jnp.concatenate([_with_one(x), spikes], axis=1) if "recurrent" in own else _with_one(x)


def _weights(own: PyTree) -> jax.Array:
    """The incoming weights, (P, N)."""
    w = own["input"]["w"]
    bias = own["input"].get("b", jnp.zeros(w.shape[1], w.dtype))
    recurrent = [own["recurrent"]] if "recurrent" in own else []
    return jnp.concatenate([w, bias[None], *recurrent])


def _with_one(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def _as_params(own: PyTree, total: jax.Array) -> PyTree:
    """The sums of a stage in the structure of its parameters."""
    n = own["input"]["w"].shape[0]
    parts = {"w": total[:n], "b": total[n]}
    made = {"input": {name: parts[name] for name in own["input"]}, "cell": own["cell"]}
    return made | {"recurrent": total[n + 1 :]} if "recurrent" in own else made

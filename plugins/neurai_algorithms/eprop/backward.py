r"""E-prop in reverse: the sum over time of learning signals and eligibility traces, by one matrix product per weight.

An eligibility trace is linear in the spikes that arrive, with factors that depend on the state of its own neuron only.
So the learning signals can go back in time through each neuron instead, to its current, $d_j^t$, and meet what has
arrived there:

$$\sum_t L_j^t \, e_{ji}^t = \sum_t d_j^t \, z_i^t \qquad
  d_j^t = \sum_{t' \ge t} L_j^{t'} \frac{\partial z_j^{t'}}{\partial I_j^t}$$

where the derivatives are those of one neuron alone, and $z_i^t$ is what synapse i carries in step t. A few numbers per
neuron, example and step are kept, none per synapse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.eprop.signals import Feedback, potentials, signals_of
from neurai_algorithms.time_chunks import flat, folded
from neurai_core.arrays import PyTree
from neurai_core.models.spiking import Constant, SpikingNetwork, Stage


class _Ran(NamedTuple):
    """A stage run through time; all arrays have the time axis first.

    Attributes:
        below: what reached its synapses, (T, B, D), or (1, B, D) if that is the same at every step.
        spikes: its spikes (T, B, N).
        gain: derivative of the spikes by the current of the same step, (T, B, N).
        back: from learning signals of the spikes to those of the currents.
    """

    below: jax.Array
    spikes: jax.Array
    gain: jax.Array
    back: Callable[[jax.Array], tuple[jax.Array]]


def run_backward(
    model: SpikingNetwork, params: PyTree, feedback: Feedback, sequence: jax.Array
) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """Run forward; see `signals` for arguments and results."""
    below = sequence[:1] if isinstance(model.encode, Constant) else sequence
    ran: list[_Ran] = []
    for stage, own in zip(model.stages[:-1], params[:-1], strict=True):
        ran.append(_run(replace(stage, detach_recurrent=True), model.surrogate, own, below, len(sequence)))
        below = ran[-1].spikes
    traces = potentials(model.stages[-1].cell, folded(partial(model.stages[-1].project, params[-1]), below))

    def grads_of(errors: jax.Array) -> PyTree:
        signals = signals_of(params, feedback, errors, [one.gain for one in ran])
        hidden = [_grads(own, one, *one.back(L)) for own, one, L in zip(params[:-1], ran, signals, strict=True)]
        return *hidden, {"input": _products(params[-1]["input"], below, errors), "cell": params[-1]["cell"]}

    return traces, grads_of


def _run(stage: Stage, surrogate: Any, own: PyTree, below: jax.Array, steps: int) -> _Ran:
    currents = folded(partial(stage.project, own), below)
    currents = jnp.broadcast_to(currents, (steps, *currents.shape[1:]))

    def neurons(currents: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(past: Any, current: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            def spikes_of(current: jax.Array) -> jax.Array:
                return stage.output(own, surrogate, stage.charge(own, held, current))

            held, given = jax.lax.stop_gradient((past, current))
            _, gain = jax.jvp(spikes_of, (given,), (jnp.ones_like(given),))
            spikes, past = stage.fire(own, surrogate, stage.charge(own, past, current))
            return past, (spikes, gain)

        return jax.lax.scan(step, stage.start(currents.shape[1:], currents.dtype), currents)[1]

    spikes, back, gain = jax.vjp(neurons, currents, has_aux=True)
    return _Ran(below, spikes, gain, back)


def _grads(own: PyTree, ran: _Ran, of_currents: jax.Array) -> PyTree:
    """The gradient of a hidden stage, in the structure of its parameters."""
    made = {"input": _products(own["input"], ran.below, of_currents), "cell": own["cell"]}
    if "recurrent" not in own:
        return made
    return made | {"recurrent": flat(ran.spikes[:-1]).T @ flat(of_currents[1:])}


def _products(own: PyTree, below: jax.Array, of_currents: jax.Array) -> PyTree:
    """The gradients of weights, and of the bias if there is one."""
    total = of_currents.sum(axis=0, keepdims=True) if len(below) == 1 else of_currents
    parts = {"w": flat(below).T @ flat(total), "b": total.sum(axis=(0, 1))}
    return {name: parts[name] for name in own}

"""Reinforcing one synapse by a late reward: the network of reward-modulated STDP finds out which one it was.

python benchmarks/figures/reward_stdp.py [--seeds 3] [--json FILE]

Izhikevich 2007, doi:10.1093/cercor/bhl152: a reward that comes after the spikes which led to it, and reaches all
synapses alike, strengthens the right synapse, because its eligibility trace is still there; firing in the meantime
does not disturb that. Here: one LIF neuron with 20 inputs that fire at random, 0.05 spikes per step, for 60 steps and
`delay` more. An example is rewarded at its end by the number of times that the neuron fired at most 3 steps after the
first input, in the first 60 steps. 200 steps of gradient descent with 128 examples each; the trace has a time
constant of 40 steps, and pairs with the output first count 1.5 times as much as others. Weights are relative to those
at the start.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from digits_run import script

import neurai_core as neurai
from neurai_core.layered import dense
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage

INPUTS, EXAMPLES, STEPS, WINDOW, DELAYS = 20, 128, 200, 3, (0, 40, 80)
FIRST, RATE, LEARNING, START, PLUS, MINUS = 60, 0.05, 3.0, 0.35, 0.01, 0.015


def reward(y: jax.Array, targets: jax.Array) -> jax.Array:
    """Minus the loss: what is given with the batch, whatever the outputs are."""
    return -jnp.mean(targets)


def coincidences(x: jax.Array, spikes: jax.Array) -> jax.Array:
    """How often the neuron fired just after the first input, per example."""
    recent = sum(jnp.pad(x[:, : x.shape[1] - lag, 0], ((0, 0), (lag, 0))) for lag in range(WINDOW + 1)) > 0
    return jnp.sum((recent * spikes[:, :, 0])[:, :FIRST], axis=1)


def grown(delay: int, seed: int) -> tuple[float, float, float]:
    """The weight of the rewarded synapse, and the mean and largest of the others, at the end."""
    sizes = {"a_plus": PLUS, "a_minus": MINUS, "tau_plus": 3.0, "tau_minus": 3.0, "tau_trace": 40.0}
    rule = neurai.algorithm("reward-stdp", loss=reward, **sizes)
    spike = neurai.surrogate("superspike")
    model = SpikingNetwork((Stage(dense(1, bias=False), LIF(0.8)), Stage(dense(1, bias=False), Leaky(0.9))), spike)
    params, _ = model.init(jax.random.key(seed), (FIRST, INPUTS))
    start = jax.tree.map(jnp.ones_like, params[0]["input"]["w"]) * START
    params[0]["input"]["w"] = start
    hidden = SpikingNetwork(model.stages[:1], spike, readout="all")

    @jax.jit
    def step(params: Any, key: jax.Array) -> tuple[Any, None]:
        x = (jax.random.uniform(key, (EXAMPLES, FIRST + delay, INPUTS)) < RATE) * 1.0
        rewards = coincidences(x, hidden(params[:1], x))
        grads = rule.estimate(model, params, (), (x, rewards))[0].grads
        return jax.tree.map(lambda p, g: jnp.clip(p - LEARNING * g, 0, 2 * START), params, grads), None

    params, _ = jax.lax.scan(step, params, jax.random.split(jax.random.key(seed + 1), STEPS))
    w = params[0]["input"]["w"][:, 0] / START
    return float(w[0]), float(w[1:].mean()), float(w[1:].max())


def figure(seed: int) -> dict[str, Any]:
    """The weights, for every delay of the reward."""
    found: dict[str, Any] = {}
    for delay in DELAYS:
        names = ("rewarded synapse", "mean of the others", "largest other")
        found |= {f"{name}, delay {delay}": w for name, w in zip(names, grown(delay, seed), strict=True)}
    return found


if __name__ == "__main__":
    script(__doc__, figure)

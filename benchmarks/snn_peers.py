"""A training step of a two-stage spiking network in every peer that is installed, as its own documentation writes it.

Same sizes, steps, batch, decay 0.9, surrogate slope 10, mean rate as the output, cross entropy, Adam. Spikes go in time
first, as they all take them. What differs: spyx and snntorch delay the reset by a step, jaxpike multiplies the input by
1 - decay, norse has an Euler step of its own.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax

DECAY, SLOPE = 0.9, 10.0
Sizes = tuple[int, ...]
Model = tuple[Callable[..., Any], Any]

# ---------------------------------------------------------------------------- on JAX: (model(params, x), params)


def spyx(sizes: Sizes) -> Model:
    from flax import nnx
    from spyx import axn, nn

    rngs, spike = nnx.Rngs(0), axn.superspike(SLOPE)
    layers = [
        part
        for fan_in, width in pairwise(sizes)
        for part in (nnx.Linear(fan_in, width, rngs=rngs), nn.LIF((width,), beta=DECAY, activation=spike, rngs=rngs))
    ]
    graph, params = nnx.split(nn.Sequential(*layers))
    return lambda params, x: nn.run(nnx.merge(graph, params), x)[0].mean(axis=0), params


def jaxpike(sizes: Sizes) -> Model:
    import equinox
    import jaxpike

    keys = jax.random.split(jax.random.key(0), len(sizes))
    layers = [
        part
        for (fan_in, width), key in zip(pairwise(sizes), keys, strict=False)
        for part in (
            jaxpike.Dense(fan_in, width, key=key),
            jaxpike.LIF(tau=-1 / math.log(DECAY), surrogate=jaxpike.FastSigmoid(slope=SLOPE)),
        )
    ]
    params, rest = equinox.partition(jaxpike.Sequential(*layers), equinox.is_inexact_array)

    def model(params: Any, x: jax.Array) -> jax.Array:
        return jaxpike.spike_rate(jaxpike.unroll(equinox.combine(params, rest), x)[0])

    return model, params


# ---------------------------------------------------------------------------- on torch: modules x -> outputs


def snntorch(sizes: Sizes) -> Any:
    import snntorch
    import torch
    from snntorch import surrogate

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(sizes))
            spike = surrogate.fast_sigmoid(slope=SLOPE)
            self.leaky = torch.nn.ModuleList(snntorch.Leaky(beta=DECAY, spike_grad=spike) for _ in self.linear)

        def forward(self, x: Any) -> Any:
            membranes = [leaky.init_leaky() for leaky in self.leaky]
            spikes = []
            for s in x:
                for i, (linear, leaky) in enumerate(zip(self.linear, self.leaky, strict=True)):
                    s, membranes[i] = leaky(linear(s), membranes[i])
                spikes.append(s)
            return torch.stack(spikes).mean(dim=0)

    return Network()


def spikingjelly(sizes: Sizes) -> Any:
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> Any:
        spike = surrogate.SoftSign(alpha=SLOPE)
        return neuron.LIFNode(1 / (1 - DECAY), decay_input=False, v_reset=None, surrogate_function=spike, step_mode="m")

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = [p for a, b in pairwise(sizes) for p in (layer.Linear(a, b, step_mode="m"), lif())]
            self.parts = torch.nn.Sequential(*parts)

        def forward(self, x: Any) -> Any:
            functional.reset_net(self)
            return self.parts(x).mean(dim=0)

    return Network()


def norse(sizes: Sizes) -> Any:
    import norse.torch as norse
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            p = norse.LIFBoxParameters(tau_mem_inv=(1 - DECAY) / 1e-3, method="super", alpha=torch.as_tensor(SLOPE))
            cells = [p_ for a, b in pairwise(sizes) for p_ in (torch.nn.Linear(a, b), norse.LIFBoxCell(p))]
            self.cells = norse.SequentialState(*cells)

        def forward(self, x: Any) -> Any:
            state, spikes = None, []
            for s in x:
                s, state = self.cells(s, state)
                spikes.append(s)
            return torch.stack(spikes).mean(dim=0)

    return Network()


ON_JAX = {"spyx": spyx, "jaxpike": jaxpike}
ON_TORCH = {"snntorch": snntorch, "spikingjelly": spikingjelly, "norse": norse}


def installed(names: dict[str, Any]) -> dict[str, Any]:
    """Those of the peers that can be imported; the others are named."""
    found = {name: make for name, make in names.items() if importlib.util.find_spec(name)}
    for name in names.keys() - found.keys():
        print(f"{name} is not installed here and left out: pip install {name}")
    return found


def torch_step(module: Any, x: Any, y: Any) -> Callable[[], float]:
    """A call that makes one training step; x and y are numpy arrays."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    inputs, targets = torch.tensor(x), torch.tensor(y)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(inputs), targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step

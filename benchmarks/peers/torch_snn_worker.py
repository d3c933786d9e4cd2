"""A spiking convolutional network in norse, snntorch and spikingjelly, if installed, as their documentation has it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import spikes
import torch
import worker
from torch import Tensor, nn


def layers(pool: str, weights: list[Any], conv: Any = nn.Conv2d, dense: Any = nn.Linear, **mode: Any) -> list[Any]:
    """One list of modules for every stage, with the weights of the problem and no bias."""
    pools = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}[pool]
    made: list[Any] = []
    for w in weights[:-1]:
        made.append([conv(w.shape[2], w.shape[3], spikes.KERNEL, bias=False, **mode), pools(2)])
    made.append([dense(*weights[-1].shape, bias=False, **mode)])
    with torch.no_grad():
        for (linear, *_), w in zip(made, weights, strict=True):
            linear.weight.copy_(torch.from_numpy(w.transpose(3, 2, 0, 1) if w.ndim == 4 else w.T))
    made[-1].insert(0, nn.Flatten())
    return made


def norse(pool: str, weights: list[Any]) -> nn.Module:
    import norse.torch as norse

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tau = (1 - spikes.DECAY) / 1e-3
            p = norse.LIFBoxParameters(tau_mem_inv=tau, method="super", alpha=torch.as_tensor(spikes.SLOPE))
            parts = [part for stage in layers(pool, weights) for part in (*stage, norse.LIFBoxCell(p))]
            self.cells = norse.SequentialState(*parts)

        def forward(self, x: Tensor) -> Tensor:
            state, fired = None, []
            for s in x:
                s, state = self.cells(s, state)
                fired.append(s)
            return torch.stack(fired).mean(dim=0)

    return Network()


def snntorch(pool: str, weights: list[Any]) -> nn.Module:
    import snntorch
    from snntorch import surrogate

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.synapses = nn.ModuleList(nn.Sequential(*stage) for stage in layers(pool, weights))
            spike = surrogate.fast_sigmoid(slope=spikes.SLOPE)
            self.leaky = nn.ModuleList(snntorch.Leaky(beta=spikes.DECAY, spike_grad=spike) for _ in self.synapses)

        def forward(self, x: Tensor) -> Tensor:
            membranes = [leaky.init_leaky() for leaky in self.leaky]
            fired = []
            for s in x:
                for i, (synapse, leaky) in enumerate(zip(self.synapses, self.leaky, strict=True)):
                    s, membranes[i] = leaky(synapse(s), membranes[i])
                fired.append(s)
            return torch.stack(fired).mean(dim=0)

    return Network()


def spikingjelly(pool: str, weights: list[Any]) -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> Any:
        decay, spike = spikes.DECAY, surrogate.SoftSign(alpha=spikes.SLOPE)
        return neuron.LIFNode(1 / (1 - decay), decay_input=False, v_reset=None, surrogate_function=spike, step_mode="m")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made = layers(pool, weights, layer.Conv2d, layer.Linear, step_mode="m")
            wrapped = [
                [layer.SeqToANNContainer(p) if type(p).__module__[:5] == "torch" else p for p in s] for s in made
            ]
            self.parts = nn.Sequential(*(part for stage in wrapped for part in (*stage, lif())))

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            fired: Tensor = self.parts(x).mean(dim=0)
            return fired

    return Network()


def step(module: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    """One update."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def update() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return update


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    pool, weights, x, y = spikes.problem()
    batch, steps = (torch.from_numpy(x).permute(0, 1, 4, 2, 3).contiguous(), torch.from_numpy(y)), {}
    for name, make in {"norse": norse, "snntorch": snntorch, "spikingjelly": spikingjelly}.items():
        if importlib.util.find_spec(name):
            steps[name] = step(make(pool, weights), *batch)
            last = make(pool, weights).to(memory_format=torch.channels_last)
            steps[f"{name}, channels last"] = step(last, *batch)
    worker.serve(steps, f"torch {torch.__version__}, {threads} threads", compiles=False, calls=1)


if __name__ == "__main__":
    main()

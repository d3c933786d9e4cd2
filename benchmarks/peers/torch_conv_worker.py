"""Loops in torch on a convolutional network, channels last.

Back-propagation; strict predictive coding layer by layer, as in the reference implementation, and with one graph of the
energy per sweep; equilibrium propagation by automatic differentiation of the Hopfield energy.
"""

from __future__ import annotations

import os
from typing import Any

import images
import torch
import worker
from torch import Tensor, nn

Activities = list[Tensor]


def network(pool: str, layers: list[tuple[Any, ...]], weights: list[Any], activation: type[nn.Module]) -> nn.ModuleList:
    """Layers, each with its activation; the last is linear."""
    given, made = iter(weights), nn.ModuleList()
    for kind, *sizes in layers:
        if kind == "conv":
            w = torch.from_numpy(next(given)).permute(3, 2, 0, 1)
            linear: Any = nn.Conv2d(w.shape[1], w.shape[0], sizes[1], padding=sizes[2])
        elif kind == "dense":
            w = torch.from_numpy(next(given).T)
            linear = nn.Linear(w.shape[1], w.shape[0])
        else:
            pools = nn.AvgPool2d(2) if pool == "average" else nn.MaxPool2d(2)
            made.append(nn.Flatten() if kind == "flat" else pools)
            continue
        with torch.no_grad():
            linear.weight.copy_(w)
            linear.bias.zero_()
        made.append(linear if sizes[0] == 10 and kind == "dense" else nn.Sequential(linear, activation()))
    return made.to(memory_format=torch.channels_last)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y) ** 2).sum(dim=1).mean() / 2


def sgd(parameters: list[Tensor], grads: Any) -> None:
    with torch.no_grad():
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.sub_(worker.RATE * gradient)


def back_propagation(layers: nn.ModuleList, x: Tensor, y: Tensor) -> None:
    owned = list(layers.parameters())
    sgd(owned, torch.autograd.grad(loss(nn.Sequential(*layers)(x), y), owned))


def feed_forward(layers: nn.ModuleList, x: Tensor) -> Activities:
    v = [x]
    with torch.no_grad():
        for layer in layers:
            v.append(layer(v[-1]))
    return v


def strict_by_layers(layers: nn.ModuleList, x: Tensor, y: Tensor) -> None:
    """All activities at once, a small graph for each layer."""
    v, depth = feed_forward(layers, x), len(layers)
    for sweep in range(worker.SWEEPS + 1):
        errors, pulls = [], []
        for l in range(1, depth + 1):
            below = v[l - 1].detach().requires_grad_(l > 1)
            seen = layers[l - 1](below)
            e = torch.autograd.grad(loss(seen, y), seen, retain_graph=True)[0] if l == depth else seen.detach() - v[l]
            errors.append(e)
            if sweep == worker.SWEEPS:
                owned = list(layers[l - 1].parameters())
                sgd(owned, torch.autograd.grad(seen, owned, e) if owned else ())
            else:
                pulls.append(torch.autograd.grad(seen, below, e)[0] if l > 1 else None)
        if sweep < worker.SWEEPS:
            for l in range(1, depth):
                v[l] = v[l] + worker.ETA * (errors[l - 1] - pulls[l])


def strict_by_energy(layers: nn.ModuleList, x: Tensor, y: Tensor) -> None:
    """All activities at once, one graph of the energy for each sweep."""

    def energy(v: Activities) -> Tensor:
        hidden = ((layer(a) - b) ** 2 for layer, a, b in zip(layers[:-1], v, v[1:], strict=False))
        return loss(layers[-1](v[-1]), y) + sum(e.sum() for e in hidden) / 2

    v = feed_forward(layers, x)[:-1]
    for parameter in layers.parameters():
        parameter.requires_grad_(False)
    for _ in range(worker.SWEEPS):
        v = [v[0], *(a.detach().requires_grad_() for a in v[1:])]
        pulls = torch.autograd.grad(energy(v), v[1:])
        v = [v[0], *(a.detach() - worker.ETA * g for a, g in zip(v[1:], pulls, strict=True))]
    for parameter in layers.parameters():
        parameter.requires_grad_(True)
    owned = list(layers.parameters())
    sgd(owned, torch.autograd.grad(energy(v), owned))


def hopfield(layers: nn.ModuleList, x: Tensor, y: Tensor) -> None:
    """Twice as many steps of the free phase as of the nudged one, and the contrast of both ends."""
    blocks: list[nn.Sequential] = [nn.Sequential()]
    for layer in layers:
        learns = isinstance(layer, nn.Sequential | nn.Linear)
        blocks[-1].append(layer[0] if isinstance(layer, nn.Sequential) else layer)
        blocks += [nn.Sequential()] if learns else []
    maps, owned = blocks[:-1], list(layers.parameters())

    def energy(u: Activities) -> Tensor:
        s = [x, *map(torch.sigmoid, u)]
        own = sum((v**2).sum() for v in u) / 2
        return own - sum((above * f(below)).sum() for f, below, above in zip(maps, s, s[1:], strict=False))

    def relaxed(u: Activities, beta: float) -> Activities:
        for parameter in owned:
            parameter.requires_grad_(False)
        for _ in range(worker.SWEEPS):
            u = [v.detach().requires_grad_() for v in u]
            total = energy(u) + (beta * ((u[-1] - y) ** 2).sum() / 2 if beta else 0)
            u = [v.detach() - images.DT * g for v, g in zip(u, torch.autograd.grad(total, u), strict=True)]
        for parameter in owned:
            parameter.requires_grad_(True)
        return u

    with torch.no_grad():
        shapes, below = [], x
        for f in maps:
            below = f(below)
            shapes.append(torch.zeros_like(below))
    free = relaxed(shapes, 0)
    more, nudged = relaxed(free, 0), relaxed(free, images.BETA)
    difference = (energy(nudged) - energy(more)) / (images.BETA * len(x))
    sgd(owned, torch.autograd.grad(difference, owned))


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    pool, kinds, weights, x, y = images.problem()
    batch = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)  # channels last
    relu = network(pool, kinds, weights, nn.ReLU)
    steps = {
        "torch bp": lambda: back_propagation(relu, *batch),
        "torch pc strict, by layers": lambda: strict_by_layers(relu, *batch),
        "torch pc strict, by the energy": lambda: strict_by_energy(relu, *batch),
    }
    if pool == "average":
        sigmoid = network(pool, kinds, weights, nn.Sigmoid)
        steps["torch ep hopfield, by the energy"] = lambda: hopfield(sigmoid, *batch)
    worker.serve(steps, f"torch {torch.__version__}, {threads} threads", compiles=False, calls=1)


if __name__ == "__main__":
    main()

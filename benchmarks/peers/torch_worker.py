"""The loops of the reference implementation in torch, written anew from their description.

Strict: predictions and errors are recomputed in every sweep, from the last layer to the first, every error before
the activity it depends on moves. FixedPred: predictions and Jacobians stay those of the feed-forward pass.
Rosenbaum 2022, doi:10.1371/journal.pone.0266102.
"""

from __future__ import annotations

import torch
import worker
from torch import Tensor, nn


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y) ** 2).sum(dim=1).mean() / 2


def feed_forward(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    v = [x]
    with torch.no_grad():
        for layer in layers:
            v.append(layer(v[-1]))
    return v


def pulled(layer: nn.Module, below: Tensor, error: Tensor) -> Tensor:
    """J^T error of a layer at an input."""
    below = below.detach().requires_grad_()
    return torch.autograd.grad(layer(below), below, error)[0]


def top_error(output: Tensor, y: Tensor) -> Tensor:
    output = output.detach().requires_grad_()
    return torch.autograd.grad(loss(output, y), output)[0]


def strict(layers: nn.ModuleList, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    v, depth = feed_forward(layers, x), len(layers)
    errors: list[Tensor] = [torch.empty(0)] * (depth + 1)
    for _ in range(worker.SWEEPS):
        with torch.no_grad():
            errors[depth] = layers[-1](v[depth - 1])
        errors[depth] = top_error(errors[depth], y)
        for l in reversed(range(1, depth)):
            with torch.no_grad():
                errors[l] = layers[l - 1](v[l - 1]) - v[l]
            v[l] = v[l] + worker.ETA * (errors[l] - pulled(layers[l], v[l], errors[l + 1]))
    return v, errors


def fixed_prediction(layers: nn.ModuleList, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    fixed, depth = feed_forward(layers, x), len(layers)
    v, errors = list(fixed), [torch.empty(0)] * (depth + 1)
    errors[depth] = top_error(fixed[depth], y)
    for _ in range(worker.SWEEPS):
        for l in reversed(range(1, depth)):
            errors[l] = fixed[l] - v[l]
            v[l] = v[l] + worker.ETA * (errors[l] - pulled(layers[l], fixed[l], errors[l + 1]))
    return fixed, errors


def update(layers: nn.ModuleList, v: list[Tensor], errors: list[Tensor]) -> None:
    """Each layer's own gradient and one SGD step."""
    for l, layer in enumerate(layers):
        owned = list(layer.parameters())
        grads = torch.autograd.grad(layer(v[l]), owned, errors[l + 1])
        with torch.no_grad():
            for parameter, gradient in zip(owned, grads, strict=True):
                parameter.sub_(worker.RATE * gradient)


def main() -> None:
    torch.set_num_threads(1)
    _sizes, weights, x, y = worker.problem()
    layers = nn.ModuleList()
    for w, last in zip(weights, [False] * (len(weights) - 1) + [True], strict=True):
        linear = nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.zero_()
        layers.append(linear if last else nn.Sequential(linear, nn.ReLU()))
    batch = torch.from_numpy(x), torch.from_numpy(y)
    worker.serve(
        {
            "torch, loop of the reference, Strict": lambda: update(layers, *strict(layers, *batch)),
            "torch, loop of the reference, FixedPred": lambda: update(layers, *fixed_prediction(layers, *batch)),
        },
        f"torch {torch.__version__}",
        compiles=False,
    )


if __name__ == "__main__":
    main()

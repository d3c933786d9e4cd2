"""Every product of a convolutional network by itself in torch, channels last."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import images
import torch
import worker
from torch import Tensor
from torch.nn import functional

TWO = [2, 2]


def convolution(w: Tensor, pad: int, x: Tensor) -> tuple[Tensor, dict[str, Callable[[], Any]]]:
    y = functional.conv2d(x, w, padding=pad)
    g = torch.randn_like(y)

    def back(*mask: bool) -> Callable[[], Any]:
        ones, none = [1, 1], [0, 0]
        return lambda: torch.ops.aten.convolution_backward(g, x, w, None, ones, [pad] * 2, ones, False, none, 1, mask)

    forward = {"forward": lambda: functional.conv2d(x, w, padding=pad)}
    return y, forward | {"inputs": back(True, False, False), "weights": back(False, True, False)}


def dense(w: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Callable[[], Any]]]:
    g = torch.randn_like(x @ w)
    return x @ w, {"forward": lambda: x @ w, "inputs": lambda: g @ w.T, "weights": lambda: x.T @ g}


def pooling(pool: str, x: Tensor) -> tuple[Tensor, dict[str, Callable[[], Any]]]:
    aten, none, ones = torch.ops.aten, [0, 0], [1, 1]
    if pool == "average":
        y = functional.avg_pool2d(x, 2)
        g = torch.randn_like(y)
        back = lambda: aten.avg_pool2d_backward(g, x, TWO, TWO, none, False, True, None)  # noqa: E731 - one of two
        return y, {"forward": lambda: functional.avg_pool2d(x, 2), "inputs": back}
    y, where = functional.max_pool2d(x, 2, return_indices=True)
    g = torch.randn_like(y)
    back = lambda: aten.max_pool2d_with_indices_backward(g, x, TWO, TWO, none, ones, False, where)  # noqa: E731
    return y, {"forward": lambda: functional.max_pool2d(x, 2), "inputs": back}


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    pool, layers, weights, x, _ = images.problem()
    steps, given = {}, iter(weights)
    below = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last
    for index, (kind, *sizes) in enumerate(layers):
        if kind == "flat":
            below = below.flatten(1)
            continue
        w = torch.from_numpy(next(given)) if kind in ("conv", "dense") else None
        if kind == "pool":
            below, calls = pooling(pool, below)
        elif w is not None and kind == "conv":
            kernel = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            below, calls = convolution(kernel, sizes[2], below)
        elif w is not None:
            below, calls = dense(w, below)
        steps |= {f"torch {index} {what}": call for what, call in calls.items()}
    worker.serve(steps, f"torch {torch.__version__}, {threads} threads", compiles=False)


if __name__ == "__main__":
    with torch.no_grad():
        main()

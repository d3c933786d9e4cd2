"""What the workers of pc_training.py share: the work, its batches and the answer. Standard library and NumPy only."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

BATCH, RATE, DECAY = 200, 1e-3, 1e-3


class Work(NamedTuple):
    """One training.

    Attributes:
        method: what trains, a name that the worker knows.
        activation: of the hidden layers.
        sizes: of all layers.
        seed: of the weights and of the order of the examples.
        epochs: over the training data.
        data: a file with x, y, x_test and y_test; inputs ``(N, D)`` from 0 to 1, labels ``(N,)``.
    """

    method: str
    activation: str
    sizes: list[int]
    seed: int
    epochs: int
    data: str


class Batches:
    """The data, and the batches of every epoch: the same rows in the same order for everybody."""

    def __init__(self, work: Work) -> None:
        with np.load(work.data) as file:
            self.x, self.x_test, self.y_test = file["x"], file["x_test"], file["y_test"]
            self.targets = np.eye(work.sizes[-1], dtype=np.float32)[file["y"]]
        self.seed = work.seed

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs ``(B, D)`` and one-hot targets ``(B, C)``."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.x))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            yield self.x[rows], self.targets[rows]


def asked() -> Work:
    """The work on the command line."""
    return Work(**json.loads(sys.argv[1]))


def weights(work: Work) -> list[np.ndarray]:
    """He-normal weights ``(D_in, D_out)``."""
    draw = np.random.default_rng(work.seed)
    sizes = itertools.pairwise(work.sizes)
    return [(draw.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in sizes]


def answer(
    work: Work,
    step: Callable[[np.ndarray, np.ndarray], Any],
    outputs: Callable[[np.ndarray], Any],
    wait: Callable[[], Any],
) -> None:
    """Train, and print the test accuracy and the seconds of every epoch.

    Args:
        work: what is trained.
        step: trains on one batch and keeps what it needs for the next.
        outputs: of inputs ``(N, D)``, as ``(N, C)``.
        wait: until the last step is done.
    """
    batches, accuracies, seconds = Batches(work), [], []
    for epoch in range(work.epochs):
        began = time.perf_counter()
        for x, y in batches.epoch(epoch):
            step(x, y)
        wait()
        seconds.append(time.perf_counter() - began)
        right = np.argmax(np.asarray(outputs(batches.x_test)), axis=-1) == batches.y_test
        accuracies.append(float(right.mean()))
        print(
            f"{work.method} {work.activation}, seed {work.seed}, epoch {epoch + 1}: {accuracies[-1]:.4f}",
            file=sys.stderr,
        )
    print(json.dumps({"accuracies": accuracies, "seconds": seconds}), flush=True)

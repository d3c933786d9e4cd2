"""What do checkpoints cost? Training with one every 50 steps, against training that saves only at its end.

    python benchmarks/checkpoint_cost.py [--every 50] [--batch 64] [--epochs 4] [--rounds 5] [--json cost.json]

An MLP 784-256-64-10 is trained by back-propagation with Adam on random data of the size of Fashion-MNIST. The runs take
turns; an epoch is timed from its first step to its last, with all that is saved between, without compiling. The first
epoch of a run is left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import timing

import neurai_core as neurai

NEVER = 2**31  # steps: never within a run


class Stopwatch:
    """Takes the wall time of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    @neurai.hookimpl
    def neurai_before_epoch(self, epoch: int) -> None:
        self.start = time.perf_counter()

    @neurai.hookimpl
    def neurai_after_epoch(self, epoch: int) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def epochs_of(x: np.ndarray, y: np.ndarray, every: int, batch: int, epochs: int) -> list[float]:
    """Seconds of every epoch of a run but the first."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        neurai.fit(
            "bp",
            "mlp:256,64,relu",
            None,
            (x, y),
            optimizer="adam",
            epochs=epochs,
            batch_size=batch,
            every=every,
            observers=[watch],
            out=Path(folder, "run"),
        )
    return watch.seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=50, help="steps between two checkpoints")
    parser.add_argument("--batch", type=int, default=64, help="examples per step")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="file to write the results to")
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    x = draw.random((given.examples, 784), np.float32)
    y = draw.integers(0, 10, given.examples)
    runs = partial(epochs_of, x, y, batch=given.batch, epochs=given.epochs)
    seconds: dict[str, list[float]] = {"saved at the end": [], f"every {given.every} steps": []}
    for _ in range(given.rounds):
        for name, every in zip(seconds, (NEVER, given.every), strict=True):
            seconds[name] += runs(every=every)
    steps = given.examples // given.batch
    rows = timing.ratios({name: [t / steps for t in times] for name, times in seconds.items()}, "saved at the end")
    timing.report(f"a step of 784-256-64-10, batch {given.batch}, {steps} steps per epoch", rows)
    timing.write(given.json, rows)


if __name__ == "__main__":
    main()

"""What the workers share: the problem, the protocol with pc_peers.py, and timing. Standard library and NumPy only."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, ETA, SWEEPS, RATE, CALLS = 128, 0.1, 20, 0.01, 5
Step = Callable[[], Any]


def problem() -> tuple[list[int], list[np.ndarray], np.ndarray, np.ndarray]:
    """Sizes from the command line, He-normal weights ``(D_in, D_out)``, inputs ``(B, D)`` and one-hot targets."""
    sizes = json.loads(sys.argv[1])
    draw = np.random.default_rng(0)
    weights = [(draw.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    x = draw.normal(size=(BATCH, sizes[0])).astype(np.float32)
    y = np.eye(sizes[-1], dtype=np.float32)[draw.integers(0, sizes[-1], BATCH)]
    return sizes, weights, x, y


def serve(steps: dict[str, Step], versions: str, *, compiles: bool = True, calls: int = CALLS) -> None:
    """Warm every step up, name them, then time whichever is asked for until the other side has gone.

    Args:
        steps: by name; each does one training step and waits for its result.
        versions: of the libraries, for the table.
        compiles: whether the first call of a step compiles.
        calls: of a step, each time.
    """
    facts = {}
    for name, step in steps.items():
        start = time.process_time()
        step()
        first = time.process_time() - start
        step()
        facts[name] = {"compile_s": first if compiles else None, "versions": versions}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        step = steps[json.loads(line)]
        used, passed = time.process_time(), time.perf_counter()
        for _ in range(calls):
            step()
        used, passed = time.process_time() - used, time.perf_counter() - passed
        print(json.dumps({"seconds": used / calls, "clock": passed / calls}), flush=True)

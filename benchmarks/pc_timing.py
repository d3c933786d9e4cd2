"""Processor time of alternatives, interleaved in one process on one core: other programs' load hardly enters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any


def pin(core: int | None = None) -> None:
    """Keep this process on one core, the last one by default; call it before JAX makes its threads."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1] if core is None else core})


def interleaved(functions: dict[str, Callable[[], Any]], rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of processor time per call of every function in every round; each is called twice before."""
    import jax

    for function in functions.values():
        for _ in range(2):
            jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            for _ in range(calls):
                jax.block_until_ready(function())
            seconds[name].append((time.process_time() - start) / calls)
    return seconds


def compared(seconds: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Per function: milliseconds, and the ratio to ``base`` of the minima and (median over rounds) side by side."""
    return {
        name: {
            "ms_min": 1e3 * min(times),
            "ms_median": 1e3 * median(times),
            "ratio_min": min(times) / min(seconds[base]),
            "ratio_median": median(t / b for t, b in zip(times, seconds[base], strict=True)),
        }
        for name, times in seconds.items()
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one table."""
    print(f"\n{title}")
    columns = list(next(iter(rows.values())))
    print(f"  {'':34}" + "".join(f"{column:>14}" for column in columns))
    for name, row in rows.items():
        print(f"  {name:34}" + "".join(f"{row[column]:14.3f}" for column in columns))

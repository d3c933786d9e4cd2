"""Time alternatives side by side: interleaved rounds in one process, so a drifting machine hits all alike."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax


def interleaved(functions: dict[str, Callable[[], Any]], rounds: int = 30, calls: int = 20) -> dict[str, list[float]]:
    """Seconds per call of every function in every round; each is called and waited for once before."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                result = function()
            jax.block_until_ready(result)
            seconds[name].append((time.perf_counter() - start) / calls)
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Per function: milliseconds (median, minimum) and the median and minimum-based ratio to ``base``."""
    return {
        name: {
            "ms_median": 1e3 * median(times),
            "ms_min": 1e3 * min(times),
            "ratio_median": median(t / b for t, b in zip(times, seconds[base], strict=True)),
            "ratio_min": min(times) / min(seconds[base]),
        }
        for name, times in seconds.items()
    }


def report(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one table."""
    print(f"\n{title}")
    print(f"  {'':32} {'ms median':>10} {'ms min':>10} {'ratio':>8} {'of mins':>8}")
    for name, row in rows.items():
        print(
            f"  {name:32} {row['ms_median']:10.4f} {row['ms_min']:10.4f} "
            f"{row['ratio_median']:8.3f} {row['ratio_min']:8.3f}"
        )


def write(path: str | None, results: dict[str, Any]) -> None:
    """Write results and where they were measured as JSON, if a path is given."""
    if path:
        machine = {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "device": str(jax.devices()[0]),
        }
        Path(path).write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")

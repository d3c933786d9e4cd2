"""Is a sweep of 16 values faster than 16 runs? The commands and the functions, from start to end.

    python benchmarks/sweep_speed.py [--rule bp] [--over lr=log:0.001:0.1] [--values 16] [--rounds 1]
                                     [--how commands functions compiled] [--json speed.json] [-- OPTIONS OF COMMANDS]

`commands`: `neurai sweep RULE --over KEY=SCALE:FROM:TO:16` against 16 times `neurai train --rule RULE --set KEY=VALUE`,
in turn. Both begin with an empty compilation cache of their own, so that the second of the 16 runs finds the program of
the first where that serves it. `functions`: `neurai.sweep` against 16 times `neurai.fit` in this process, where JAX
keeps no programs unless it is told to. `compiled`: the same with a cache that holds all programs, so that none is
compiled; what remains is the training itself and the tracing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import timing
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import neurai_core as neurai
from neurai_core.training.axes import asked
from neurai_core.training.settings import RunSettings

WAYS = ("commands", "functions", "compiled")
OF_RUN = "lr"  # set by a flag, not by --set


def seconds_of(commands: list[list[str]], cache: Path) -> float:
    """Wall time of commands, one after the other."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    start = time.perf_counter()
    for words in commands:
        command = [sys.executable, "-m", "neurai_core", *words, "--quiet"]
        subprocess.run(command, env=environ | {"NEURAI_CACHE": str(cache)}, check=True)
    return time.perf_counter() - start


def by_commands(rule: str, key: str, axis: str, values: list[str], words: list[str]) -> dict[str, float]:
    """Seconds of both."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            ["train", "--rule", rule, "--set", f"{key}={value}", *words, "--out", f"{folder}/run-{at}"]
            for at, value in enumerate(values)
        ]
        sweep = ["sweep", rule, "--over", axis, *words, "--out", f"{folder}/sweep"]
        for name, commands in ((f"{len(values)} runs", runs), ("one sweep", [sweep])):
            found[name] = seconds_of(commands, Path(folder, f"cache of {name}"))
    return found


def by_functions(rule: str, key: str, values: list[str]) -> dict[str, float]:
    """Seconds of both; nothing is kept in memory from one to the other."""
    numbers = [float(value) for value in values]
    model = neurai.spec("algorithm", rule).defaults.get("model", RunSettings.model_fields["model"].default)
    found = {}
    for name in (f"{len(values)} runs", "one sweep"):
        jax.clear_caches()
        start = time.perf_counter()
        if name == "one sweep":
            neurai.sweep(rule, {key: numbers})
        else:
            for number in numbers:
                own = {"lr": number} if key == OF_RUN else {"settings": {key: number}}
                neurai.fit(rule, model, None, "digits", **own)
        found[name] = time.perf_counter() - start
    return found


def by_compiled_functions(*given: Any) -> dict[str, float]:
    """Seconds of both, when all programs were compiled before."""
    with tempfile.TemporaryDirectory() as folder, kept_by_jax(folder):
        by_functions(*given)
        return by_functions(*given)


@contextmanager
def kept_by_jax(folder: str | None) -> Iterator[None]:
    """JAX keeps all compiled programs in a folder; None keeps nothing."""
    settings = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    keep(settings)
    try:
        yield
    finally:
        keep(before)


def keep(settings: dict[str, Any]) -> None:
    """Have JAX keep programs as these settings say."""
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", default="bp")
    parser.add_argument("--over", default="lr=log:0.001:0.1", help="the axis, without the number of values")
    parser.add_argument("--values", type=int, default=16)
    parser.add_argument("--how", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("words", nargs="*", help="options of both commands, after --")
    given = parser.parse_args()
    axis = f"{given.over}:{given.values}"
    key, values = given.over.partition("=")[0], list(asked(axis, given.rule, "digits").texts)
    measures = {
        "commands": lambda: by_commands(given.rule, key, axis, values, given.words),
        "functions": lambda: by_functions(given.rule, key, values),
        "compiled": lambda: by_compiled_functions(given.rule, key, values),
    }
    results = {}
    for how in given.how:
        seconds: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            with kept_by_jax(None):
                measured = measures[how]()
            for name, one in measured.items():
                seconds.setdefault(name, []).append(one)
        results[how] = timing.ratios(seconds, "one sweep")
        timing.report(f"{given.values} values of {key} of {given.rule}, {how}", results[how])
    timing.write(given.json, results)


if __name__ == "__main__":
    main()

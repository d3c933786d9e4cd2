"""How long does `neurai train` take from start to end, and where does the time go?

Fresh processes take turns: this tree with an empty compilation cache (cold) and with a filled one (warm), and, with
--base, an earlier revision, in a worktree of its own. Prints wall and processor time with their ratios, the median
seconds of every part, and writes JSON.

    python benchmarks/start_up.py --base REVISION --rounds 5 --json start_up.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import timing

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys, time

begun = time.perf_counter()
import neurai_core.cli.app, neurai_core.training.run as run
import jax

parts = {"imports": time.perf_counter() - begun, "data": 0.0, "compile": 0.0, "training": 0.0, "picture": 0.0}

def timed(part, function):
    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            parts[part] += time.perf_counter() - start
    return call

def heard(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        parts["compile"] += seconds

def trained(*args):
    result = train(*args)
    parts["training"] = result["steps"] * result["step_ms"] / 1e3
    return result

jax.monitoring.register_event_duration_secs_listener(heard)
neurai_core.dataset = timed("data", neurai_core.dataset)
run._Run._draw = timed("picture", run._Run._draw)
train, run.train = run.train, trained
assert neurai_core.cli.main(["train", "--quiet", *sys.argv[1:]]) == 0
print(json.dumps(parts))
"""


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A worktree with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def run(tree: Path, cache: Path, words: list[str]) -> dict[str, float]:
    """Train once in a fresh process: seconds by part, with ``wall``, ``processor`` and ``rest``."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "NEURAI_"))}
    environ |= {"PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "plugins"))), "NEURAI_CACHE": str(cache)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM, *words, "--out", folder]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True, text=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "processor": processor, **parts, "rest": wall - sum(parts.values())}


def measure(base: Path | None, rounds: int, words: list[str]) -> dict[str, list[dict[str, float]]]:
    """The runs of every case, in turn."""
    cases = {"cold": ROOT, "warm": ROOT} if base is None else {"base": base, "cold": ROOT, "warm": ROOT}
    found: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for case, tree in cases.items():  # cold fills the cache that warm reads
                found[case].append(run(tree, Path(folder, "cache"), words))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes per case")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("words", nargs="*", help="options of neurai train, after --")
    given = parser.parse_args()
    if given.base:
        with tree_of(given.base) as tree:
            found = measure(tree, given.rounds, given.words)
    else:
        found = measure(None, given.rounds, given.words)
    results = {}
    for what in ("wall", "processor"):
        seconds = {case: [one[what] for one in runs] for case, runs in found.items()}
        results[what] = timing.ratios(seconds, next(iter(found)))
        timing.report(f"{what} time of neurai train", results[what])
    parts = {case: {part: median(one[part] for one in runs) for part in runs[0]} for case, runs in found.items()}
    print("\nmedian seconds of its parts")
    for part in next(iter(parts.values())):
        print(f"  {part:12}" + "".join(f"{case:>8} {row[part]:6.2f}" for case, row in parts.items()))
    timing.write(given.json, {**results, "parts": parts})


if __name__ == "__main__":
    main()

"""What does listing names, and looking up one, cost with many plugin distributions installed?

Writes dummy distributions into a temporary folder, measures fresh processes in turn, and prints the CPU time
(the least of the samples) of each task for each number of distributions, with its ratio to the first number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = {
    "python alone": "pass",
    "import": "import neurai_core",
    "names": "import neurai_core; assert len(neurai_core.names('algorithm')) > {count}",
    "one spec": "import neurai_core; neurai_core.spec('algorithm', 'dummy0')",
}
MODULE = """\
from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec

plugin = Plugin(AlgorithmSpec(name={name!r}, summary="A dummy"), "builtins:dict")
"""
# A description of the usual length, because reading it is what a careless scan pays for.
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: neurai\n\n" + "A dummy plugin. " * 190


def install(folder: Path, count: int) -> None:
    """Write ``count`` distributions of one plugin each."""
    for index in range(count):
        name = f"dummy{index}"
        (folder / f"{name}.py").write_text(MODULE.format(name=name))
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(name=name))
        (info / "entry_points.txt").write_text(f"[neurai.algorithms]\n{name} = {name}:plugin\n")


def cpu_seconds(code: str, folder: Path) -> float:
    """User and system time of a fresh interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(folder)}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(counts: list[int], samples: int) -> dict[str, dict[int, float]]:
    """Least CPU time in seconds by task and number of distributions, measured in turn."""
    with tempfile.TemporaryDirectory() as root:
        folders = {count: Path(root, str(count)) for count in counts}
        for count, folder in folders.items():
            folder.mkdir()
            install(folder, count)
        least = {task: dict.fromkeys(counts, float("inf")) for task in TASKS}
        for _ in range(samples + 1):  # the first round fills caches; the least is taken
            for task, code in TASKS.items():
                for count, folder in folders.items():
                    least[task][count] = min(least[task][count], cpu_seconds(code.format(count=count), folder))
    return least


def show(least: dict[str, dict[int, float]]) -> None:
    """Print milliseconds, and the ratio to the first number of distributions."""
    for task, times in least.items():
        first = next(iter(times.values()))
        cells = (f"{count:>5}: {1e3 * time:6.0f} ms ({time / first:4.2f}x)" for count, time in times.items())
        print(f"{task:<14}" + "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 50, 500], help="numbers of distributions")
    parser.add_argument("--samples", type=int, default=7, help="fresh processes per cell")
    parser.add_argument("--json", type=Path, help="file to write the seconds to")
    given = parser.parse_args()
    least = measure(given.counts, given.samples)
    show(least)
    if given.json:
        given.json.write_text(json.dumps(least, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What does it cost to train on files, instead of on arrays in memory?

    python benchmarks/large_data.py --gigabytes 3 --json large_data.json

Writes a data set of that size as numpy files to a temporary folder, and trains the same network on it in two processes
that take turns: one reads rows from the files (`--data npy:FOLDER`), the other holds the arrays in memory. A third one
trains on a single batch: its memory is what the model needs by itself.

Prints the rate of steps from the files relative to memory, by the median over rounds, and the peak of RssAnon in
/proc/self/status, sampled every 5 ms, above that of the third process. RssAnon is what a process has allocated; pages
of mapped files, which the system drops when it needs room, are in VmHWM only, which is printed too. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROWS_AT_ONCE = 20_000
FEATURES, CLASSES = 784, 10
TEST = 10_000


def write_data(folder: Path, gigabytes: float) -> int:
    """Four numpy files with float32 inputs, (N, 784), whose training part has that size; returns N."""
    n = int(gigabytes * 1e9 / (4 * FEATURES))
    random = np.random.default_rng(0)
    block = random.random((ROWS_AT_ONCE, FEATURES), np.float32)
    for part, rows in (("train", n), ("test", TEST)):
        with open(folder / f"x_{part}.npy", "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, FEATURES)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, rows, ROWS_AT_ONCE):
                block[:, 0] = random.random(ROWS_AT_ONCE)
                file.write(block[: rows - start].data)
        np.save(folder / f"y_{part}.npy", random.integers(0, CLASSES, rows, np.int32))
    return n


# ---------------------------------------------------------------------------- one process


def memory() -> dict[str, float]:
    """Megabytes by the names in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssFile", "VmHWM")))
    return {name: int(value.split()[0]) / 1024 for name, value in found.items()}


class Peak:
    """The largest RssAnon so far, sampled by a thread."""

    def __init__(self) -> None:
        self.anon = 0.0
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            self.anon = max(self.anon, memory()["RssAnon"])
            time.sleep(0.005)


def child(way: str, folder: Path, model: str, batch_size: int, steps: int) -> None:
    """Train; every line of stdin asks for so many steps, and is answered with their seconds."""
    peak = Peak()
    import neurai_core as neurai
    from neurai_core.data import Dataset
    from neurai_core.training.callbacks import Callbacks
    from neurai_core.training.loop import train_task
    from neurai_core.training.settings import choose
    from neurai_core.training.task import Objects, prepare

    data = neurai.dataset("npy", path=str(folder))
    if way != "files":
        names, rows = ("x_train", "y_train", "x_test", "y_test"), slice(None if way == "memory" else batch_size)
        arrays = (np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[rows]) for name in names)
        data = Dataset("npy", *arrays, classes=data.classes)
    flags = {"rule": "bp", "model": model, "batch_size": batch_size, "epochs": 1_000_000 if way == "model" else 100}
    task = prepare(choose(flags, environ={}), Objects(data=data))
    begun = time.perf_counter()
    ended = False

    def reached(done: int, progress: Any) -> None:
        nonlocal begun, ended
        if done % steps:
            return
        print(json.dumps({"seconds": time.perf_counter() - begun, "peak": peak.anon} | memory()), flush=True)
        ended = not sys.stdin.readline()
        begun = time.perf_counter()

    train_task(
        task,
        callbacks=Callbacks(at_most=lambda done: steps - done % steps, reached=reached, stop=lambda: ended),
    )


# ---------------------------------------------------------------------------- processes that take turns


class Process:
    """A process that trains when it is asked to; the steps before the first question only warm it up."""

    def __init__(self, way: str, folder: Path, args: argparse.Namespace) -> None:
        own = [str(folder), args.model, str(args.batch_size), str(args.steps)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", way, *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=kept,
        )
        self.last = self._answer()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A process ended early.")
        return json.loads(line)

    def round(self) -> float:
        """Seconds for the steps of a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.last = self._answer()
        return self.last["seconds"]

    def end(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        return self.last


def rounds(folder: Path, args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    alone = Process("model", folder, args)
    alone.round()
    yield "model", alone.end()
    files, held = Process("files", folder, args), Process("memory", folder, args)
    seconds = [(files.round(), held.round()) for _ in range(args.rounds)]
    yield "seconds", seconds
    yield "files", files.end()
    yield "memory", held.end()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        way, folder, model, batch_size, steps = sys.argv[2:]
        child(way, Path(folder), model, int(batch_size), int(steps))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--model", default="mlp:256,128")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", help="where to write the data; by default the folder for temporary files")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        n = write_data(Path(folder), args.gigabytes)
        found = dict(rounds(Path(folder), args))
    seconds = found.pop("seconds")
    results = {
        "rows": n,
        "gigabytes": args.gigabytes,
        "model": args.model,
        "batch_size": args.batch_size,
        "ms_files": 1e3 * median(one for one, _ in seconds) / args.steps,
        "ms_memory": 1e3 * median(other for _, other in seconds) / args.steps,
        "rate": median(other / one for one, other in seconds),
        "mb_model": found["model"]["peak"],
        "mb_files_above_model": found["files"]["peak"] - found["model"]["peak"],
        "mb_memory_above_model": found["memory"]["peak"] - found["model"]["peak"],
        "mb_high_water_files": found["files"]["VmHWM"],
        "mb_high_water_memory": found["memory"]["VmHWM"],
    }
    for name, value in results.items():
        print(f"{name:24} {value if isinstance(value, str | int) else round(value, 3)}")
    if args.json:
        from timing import write

        write(args.json, results)


if __name__ == "__main__":
    main()

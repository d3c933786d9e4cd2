"""Does training stay what it is over many steps? Every rule: no retracing, no compiling, no growing memory.

    python benchmarks/soak.py [--steps 10000] [--rules NAME ...] [--batch 8] [--json soak.json]

Every rule is trained in a fresh process, as `neurai train --rule NAME` does it with its own default network, in small
batches. From the end of the first tenth on, all that JAX traces and compiles is counted. The memory that the process
has allocated at the end is compared with that after a third, when the allocator has settled; pages of files, such as
libraries, are not counted, because the system drops and reads them as it likes. Fails if a rule traces or compiles
anything, or if its memory grows by 2 % or more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import timing

import neurai_core as neurai
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.loop import train_task
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

GROWTH = 0.02
EVENTS = {
    "traced": "/jax/core/compile/jaxpr_trace_duration",
    "compiled": "/jax/core/compile/backend_compile_duration",
}


def memory() -> int:
    """Bytes of memory that this process has allocated and used."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Counts what JAX traces and compiles after a tenth of the steps, and keeps the memory held after a third."""

    def __init__(self, steps: int) -> None:
        self.steps, self.counts = steps, dict.fromkeys(EVENTS, 0)
        self.tenth, self.before = 0, 0
        jax.monitoring.register_event_duration_secs_listener(self.heard)

    def heard(self, event: str, seconds: float, **_: Any) -> None:
        for name, known in EVENTS.items():
            self.counts[name] += event == known

    def reached(self, done: int) -> None:
        if not self.tenth and done >= self.steps // 10:
            self.tenth, self.counts = done, dict.fromkeys(EVENTS, 0)
        if not self.before and done >= self.steps // 3:
            self.before = memory()


def soak(rule: str, steps: int, batch: int) -> dict[str, Any]:
    """Train a rule for so many steps, rounded up to epochs."""
    flags = {"rule": rule, "batch_size": batch}
    epoch_steps = prepare(choose(flags | {"epochs": 1}, environ={})).epoch_steps
    task = prepare(choose(flags | {"epochs": math.ceil(steps / epoch_steps)}, environ={}))
    watch = Watch(task.steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = train_task(task, callbacks=Callbacks(epoch=lambda row, progress: watch.reached(row.step)))
    after = memory()
    return {
        "steps": int(trained.progress.step),
        "since": watch.tenth,
        **watch.counts,
        "megabytes": after / 2**20,
        "growth": after / watch.before - 1,
    }


def in_its_own_process(rule: str, steps: int, batch: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", "--rules", rule, "--steps", str(steps), "--batch", str(batch)]
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}  # of the C library
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=usual)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--rules", nargs="+", help="by default all")
    parser.add_argument("--one", action="store_true", help="in this process, and print JSON")
    parser.add_argument("--json", help="file to write the results to; rules that it holds are left out")
    given = parser.parse_args()
    rules = given.rules or sorted({neurai.spec("algorithm", name).name for name in neurai.names("algorithm")})
    if given.one:
        print(json.dumps(soak(rules[0], given.steps, given.batch)))
        return
    before = json.loads(Path(given.json).read_text())["results"] if given.json and Path(given.json).exists() else {}
    found = {rule: row for rule, row in before.items() if row["steps"] >= given.steps}
    print(f"{'':22} {'steps':>7} {'traced':>7} {'compiled':>9} {'memory':>8} {'growth':>8}")
    for rule in rules:
        if rule not in found:
            found[rule] = in_its_own_process(rule, given.steps, given.batch)
            timing.write(given.json, found)
        row = found[rule]
        bad = row["traced"] or row["compiled"] or row["growth"] >= GROWTH
        print(
            f"{rule:22} {row['steps']:7} {row['traced']:7} {row['compiled']:9} {row['megabytes']:5.0f} MB "
            f"{100 * row['growth']:+7.2f} % {'FAILS' if bad else ''}",
            flush=True,
        )
    wrong = [rule for rule in rules if found[rule]["traced"] or found[rule]["compiled"]]
    if wrong or any(found[rule]["growth"] >= GROWTH for rule in rules):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Forward and backward of a million elements through every surrogate, against the memory floor and other libraries.

python benchmarks/surrogate_cost.py [--threads 1] [--rounds 20] [--peer NAME=PYTHON ...] [--json FILE]

The floor has the same traffic (u and the cotangent read, spikes and gradient written) and one multiplication. Every
library runs in a process of its own, in the environment whose interpreter is given, and is skipped, with a word, where
it cannot be imported; processes take turns round by round, so that a drifting machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ELEMENTS = 1_000_000
FLOOR = "floor"
Functions = dict[str, Callable[[], Any]]

# ---------------------------------------------------------------------------- one library in its process


def with_jax(spike: dict[str, Any]) -> Functions:
    """Every function compiled with its backward pass, and the floor."""
    import jax
    import jax.numpy as jnp

    u = 3 * jax.random.normal(jax.random.key(0), (ELEMENTS,), jnp.float32)
    cotangent = jax.random.normal(jax.random.key(1), (ELEMENTS,), jnp.float32)

    def both(function: Any) -> Callable[[], Any]:
        @jax.jit
        def run(u: Any, cotangent: Any) -> Any:
            spikes, back = jax.vjp(function, u)
            return spikes, *back(cotangent)

        return lambda: jax.block_until_ready(run(u, cotangent))

    floor = jax.jit(lambda u, cotangent: (jnp.abs(u), u * cotangent))
    return {FLOOR: lambda: jax.block_until_ready(floor(u, cotangent)), **{n: both(f) for n, f in spike.items()}}


def with_torch(spike: dict[str, Any]) -> Functions:
    """Every function with its backward pass, as torch runs it."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    u = 3 * torch.randn(ELEMENTS)
    cotangent = torch.randn(ELEMENTS)

    def both(function: Any) -> Callable[[], Any]:
        def run() -> Any:
            x = u.detach().requires_grad_()
            function(x).backward(cotangent)
            return x.grad

        return run

    return {name: both(function) for name, function in spike.items()}


def neurai() -> Functions:
    import jax

    import neurai_core

    key = jax.random.key(2)

    def spike(name: str) -> Any:
        surrogate = neurai_core.surrogate(name)
        return lambda u: surrogate(u, key=key)

    return with_jax({name: spike(name) for name in neurai_core.names("surrogate")})


def spyx() -> Functions:
    from spyx import axn

    return with_jax(
        {
            "superspike": axn.superspike(1.0),
            "atan": axn.arctan(1.0),
            "tanh": axn.tanh(1.0),
            "triangle": axn.triangular(1.0),
            "rectangular": axn.boxcar(1.0, 1.0),
            "straightthrough": axn.custom(lambda x: x * 0 + 1),
        }
    )


def jaxpike() -> Functions:
    from jaxpike import surrogate as s

    made = {"superspike": s.FastSigmoid, "atan": s.ATan, "triangle": s.Triangular, "rectangular": s.Boxcar}
    return with_jax({name: make() for name, make in made.items()})


def braintools() -> Functions:
    from braintools import surrogate as s

    made = {
        "sigmoid": s.Sigmoid,
        "superspike": s.InvSquareGrad,
        "softsign": s.SoftSign,
        "atan": s.Arctan,
        "erf": s.ERF,
        "gaussian": s.GaussianGrad,
        "multigaussian": s.MultiGaussianGrad,
        "polynomial": s.PiecewiseQuadratic,
        "triangle": s.ReluGrad,
        "singleexponential": s.PiecewiseExp,
        "slayerpdf": s.SlayerGrad,
        "leakyrelu": s.LeakyRelu,
        "piecewiseleakyrelu": s.PiecewiseLeakyRelu,
        "logtailedrelu": s.LogTailedRelu,
        "qpseudospike": s.QPseudoSpike,
        "s2nn": s.S2NN,
        "nonzerosignlog": s.NonzeroSignLog,
        "squarewavefourier": s.SquarewaveFourierSeries,
    }
    return with_jax({name: make() for name, make in made.items()})


def snntorch() -> Functions:
    from snntorch import surrogate as s

    made = {
        "superspike": s.fast_sigmoid,
        "sigmoid": s.sigmoid,
        "atan": s.atan,
        "straightthrough": s.straight_through_estimator,
    }
    return with_torch({name: make() for name, make in made.items()})


def spikingjelly() -> Functions:
    from spikingjelly.activation_based import surrogate as s

    made = {
        "superspike": s.SuperSpike,
        "softsign": s.SoftSign,
        "sigmoid": s.Sigmoid,
        "atan": s.ATan,
        "erf": s.Erf,
        "polynomial": s.PiecewiseQuadratic,
        "rectangular": s.Rect,
        "singleexponential": s.PiecewiseExp,
        "leakyrelu": s.LeakyKReLU,
        "piecewiseleakyrelu": s.PiecewiseLeakyReLU,
        "logtailedrelu": s.LogTailedReLU,
        "qpseudospike": s.QPseudoSpike,
        "s2nn": s.S2NN,
        "nonzerosignlog": s.NonzeroSignLogAbs,
        "squarewavefourier": s.SquarewaveFourierSeries,
        "straightthrough": s.DeterministicPass,
    }
    return with_torch({name: make() for name, make in made.items()})


def norse() -> Functions:
    from norse.torch.functional.threshold import threshold

    methods = {"superspike": "super", "triangle": "triangle", "tanh": "tanh", "circ": "circ", "erf": "heavi_erfc"}
    return with_torch({name: lambda x, method=method: threshold(x, method, 1.0) for name, method in methods.items()})


LIBRARIES = {one.__name__: one for one in (neurai, spyx, jaxpike, braintools, snntorch, spikingjelly, norse)}


def work(library: str, threads: int) -> None:
    """Seconds per call of every function, once for every line on stdin."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-threads:]))
    functions = LIBRARIES[library]()
    for function in functions.values():
        function(), function()
    print("ready", flush=True)
    for _ in sys.stdin:
        # On one core, processor time: other programs hardly enter it.
        clock = time.process_time if threads == 1 else time.perf_counter
        print(json.dumps({name: seconds(function, clock) for name, function in functions.items()}), flush=True)


def seconds(function: Callable[[], Any], clock: Callable[[], float], calls: int = 5) -> float:
    """The shortest of a few calls."""
    best = float("inf")
    for _ in range(calls):
        start = clock()
        function()
        best = min(best, clock() - start)
    return best


# ---------------------------------------------------------------------------- all of them in turns


class Worker:
    """A library in its process."""

    def __init__(self, library: str, python: str, threads: int) -> None:
        call = [python, __file__, "--worker", library, "--threads", str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(call, text=True, env=environment, **pipes)
        self.library, self.rounds = library, []

    def ready(self) -> bool:
        """Whether it came up; why not is said."""
        said = self.process.stdout.readline()
        while said and said != "ready\n":  # libraries greet
            said = self.process.stdout.readline()
        if not said:
            last = (self.process.stderr.read().strip() or "no message").splitlines()[-1]
            print(f"skipped {self.library}: {last}")
        return bool(said)

    def measure(self) -> None:
        """One more round."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.rounds.append(json.loads(self.process.stdout.readline()))

    def nanoseconds(self, of: Callable[[list[float]], float]) -> dict[str, float]:
        """Per element, over all rounds."""
        return {name: 1e9 * of([one[name] for one in self.rounds]) / ELEMENTS for name in self.rounds[0]}


def table(workers: dict[str, Worker]) -> dict[str, Any]:
    """Per surrogate: ours, its ratio to the floor, and every peer's ratio to ours."""
    ours, middle = (workers["neurai"].nanoseconds(of) for of in (min, median))
    floor = ours.pop(FLOOR)
    print(f"\nfloor {floor:.3f} ns per element (median {middle[FLOOR]:.3f})\n")
    print(f"{'':22}{'ns min':>9}{'median':>9}{'/ floor':>9}   peers, ratio to ours")
    rows = {}
    for name, time_ in sorted(ours.items(), key=lambda pair: pair[1]):
        peers = {peer: one.nanoseconds(min).get(name) for peer, one in workers.items() if peer != "neurai"}
        ratios = {peer: found / time_ for peer, found in peers.items() if found}
        rows[name] = {"ns_min": time_, "ns_median": middle[name], "of_floor": time_ / floor, "peers": ratios}
        shown = "  ".join(f"{peer} {ratio:.2f}" for peer, ratio in ratios.items())
        print(f"{name:22}{time_:9.3f}{middle[name]:9.3f}{time_ / floor:9.2f}   {shown}")
    return {"floor_ns": floor, "surrogates": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.threads)
        return
    pythons = dict.fromkeys(LIBRARIES, sys.executable) | dict(one.split("=", 1) for one in args.peer)
    workers = {name: Worker(name, python, args.threads) for name, python in pythons.items()}
    workers = {name: worker for name, worker in workers.items() if worker.ready()}
    for _ in range(args.rounds):
        for worker in workers.values():
            worker.measure()
    results = table(workers)
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What does a step of equilibrium propagation cost? Against our own BP step, the FLOP floor, and two torch loops.

python benchmarks/ep_step.py [--rounds 20] [--only compile|memory|NETWORK] [--json FILE]

The torch loops are written here from the description of two public codes: "energy autograd" differentiates the
whole energy at every step (and builds every weight term), "fixed point" iterates s <- clip(-dE/ds) layer by layer
without keeping the input drive. They run when torch is installed.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from timing import interleaved, ratios, report, write

import neurai_core as neurai
from neurai_core.energy import chain_of
from neurai_core.grads import BP, EP
from neurai_core.models import cnn, mlp

BATCH = 128
NETWORKS = ("784-256-10", "784-512-512-10", "conv")
HOPFIELD = {"loss_f": "squared_error", "energy": "hopfield", "activation": "sigmoid"}
METHODS: dict[str, dict[str, Any]] = {
    "EP gaussian (default)": {"loss_f": "cross_entropy"},
    "EP gaussian, zeros start": {"loss_f": "cross_entropy", "init": "zeros"},
    "EP gaussian, symmetric": {"loss_f": "cross_entropy", "mode": "symmetric"},
    "EP hopfield": HOPFIELD,
    "EP hopfield, symmetric": HOPFIELD | {"mode": "symmetric", "beta": 0.5},
    "EP hopfield, dt 0.5, 10+10": HOPFIELD | {"n_relax": 10, "dt": 0.5},
    "EP hopfield, even/odd 10+10": HOPFIELD | {"order": "even_odd", "n_relax": 10, "dt": 0.5},
}
warnings.filterwarnings("ignore", message="EP: after n_relax")


def problem(name: str) -> tuple[Any, Any, tuple[jax.Array, jax.Array]]:
    if name == "conv":
        model, shape = cnn((8, 16), 10, activation="sigmoid"), (28, 28, 1)
    else:
        sizes = tuple(map(int, name.split("-")))
        model, shape = mlp(sizes, activation="sigmoid"), sizes[:1]
    params, _ = model.init(jax.random.key(0), shape)
    x = jax.random.normal(jax.random.key(1), (BATCH, *shape))
    return model, params, (x, jax.random.randint(jax.random.key(2), (BATCH,), 0, 10))


def rule_of(method: str, **more: Any) -> Any:
    settings = METHODS.get(method, {"loss_f": "cross_entropy"}) | more
    loss = settings.pop("loss_f")
    return neurai.algorithm("bp" if method == "BP" else "ep", loss=loss, accuracy="accuracy", **settings)


def steps(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of every method and the ratio to BP."""
    model, params, batch = problem(name)

    def step(method: str) -> Callable[[], Any]:
        estimate = jax.jit(rule_of(method).estimate, static_argnums=0)
        return lambda: estimate(model, params, (), batch)[0]

    functions = {method: step(method) for method in ("BP", *METHODS)}
    ep = EP(acc_f="accuracy", **HOPFIELD)  # looks after every call whether the activities blew up
    functions["EP hopfield, get_grads"] = lambda: ep.get_grads(model, params, batch)
    if name == "784-256-10":
        functions |= torch_loops(batch)
    rows = ratios(interleaved(functions, rounds, 5), "BP")
    report(f"{name}, batch {BATCH}, 20 + 20 steps", rows)
    return rows


def compiled(method: str, n_relax: int, name: str = "784-256-10") -> dict[str, float]:
    """Seconds to trace and compile, bytes of temporaries and counted FLOPs of one step."""
    model, params, batch = problem(name)
    rule = rule_of(method, **({} if method == "BP" else {"n_relax": n_relax}))
    start = time.perf_counter()
    program = jax.jit(rule.estimate, static_argnums=0).lower(model, params, (), batch).compile()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "temporary_mb": program.memory_analysis().temp_size_in_bytes / 1e6}


def peak(method: str, network: str) -> float:
    """Greatest memory of a process of its own that takes ten steps, in MB."""
    command = [sys.executable, __file__, "--only", network, "--peak-of", method]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(method: str, network: str) -> None:
    model, params, batch = problem(network)
    rule = BP("cross_entropy", "accuracy") if method == "BP" else EP(acc_f="accuracy", **METHODS[method])
    for _ in range(10):
        jax.block_until_ready(rule.get_grads(model, params, batch))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def floor(name: str) -> dict[str, float]:
    """MFLOP of the products that no method can avoid: BP, and two phases of 20 steps."""
    model, params, (x, _) = problem(name)
    u = jax.eval_shape(lambda params: chain_of(model, params, x).feedforward(params), params)
    weights = [layer["w"].size for layer in params if layer]
    first, *inner = (2 * BATCH * w * math.prod(v.shape[1:-1]) / 1e6 for w, v in zip(weights, u, strict=True))
    return {"BP": 2 * first + 3 * sum(inner), "EP two-phase": 2 * first + (40 * 2 + 2) * sum(inner)}


def torch_loops(batch: tuple[jax.Array, jax.Array]) -> dict[str, Callable[[], Any]]:
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(2)
    x = torch.tensor(np.asarray(batch[0]))
    y = torch.nn.functional.one_hot(torch.tensor(np.asarray(batch[1])).long(), 10).float()
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, m, generator=generator) / n**0.5 for n, m in ((784, 256), (256, 10))]

    def autograd() -> list[Any]:
        """Euler steps of dt 0.1, 20 free and 20 nudged; every step is a full backward pass."""
        w = [v.clone().requires_grad_() for v in weights]
        u = [torch.zeros(BATCH, v.shape[1], requires_grad=True) for v in w]

        def energy() -> Any:
            fired = [x, *(torch.sigmoid(v) for v in u)]
            squares = sum((v**2).sum() for v in (x, *u)) / 2
            pairs = zip(fired[1:], w, fired[:-1], strict=True)
            return (squares - sum((above * (below @ v)).sum() for above, v, below in pairs)) / BATCH

        grads = []
        for beta in (0.0, 1.0):
            for _ in range(20):
                (energy() + beta * ((u[-1] - y) ** 2).sum() / 2 / BATCH).backward()
                with torch.no_grad():
                    for v in u:
                        v -= 0.1 * BATCH * v.grad
                        v.grad = None
                for v in w:
                    v.grad = None
            grads.append(torch.autograd.grad(energy(), w))
        return [nudged - free for free, nudged in zip(*grads, strict=True)]

    def fixed_point() -> list[Any]:
        """s <- clip(-dE/ds), 20 free, then 20 with and 20 without the nudge from the same state."""

        def settle(hidden: Any, out: Any, beta: float) -> tuple[Any, Any]:
            for _ in range(20):
                pull = beta * (out - y)
                hidden, out = (x @ weights[0] + out @ weights[1].T).clamp(0, 1), hidden @ weights[1] - pull
            return hidden, out

        free = settle(torch.zeros(BATCH, 256), torch.zeros(BATCH, 10), 0.0)
        ends = [settle(*free, beta) for beta in (0.5, 0.0)]
        products = [(x.T @ hidden, hidden.T @ out) for hidden, out in ends]
        return [(b - a) / 0.5 / BATCH for a, b in zip(*products, strict=True)]

    return {"torch, energy autograd": autograd, "torch, fixed point": fixed_point}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", help=f"compile, memory, or one of {', '.join(NETWORKS)}")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    if args.peak_of:
        print_peak(args.peak_of, args.only)
        return
    results: dict[str, Any] = {}
    if args.only in (None, "memory"):  # first: on Linux a process starts from the greatest memory of its parent
        results["peak_mb"] = {method: peak(method, NETWORKS[0]) for method in ("BP", *METHODS)}
        print("\npeak MB:", {method: round(mb) for method, mb in results["peak_mb"].items()})
    if args.only in (None, "compile"):
        results["compile"] = compile_times()
    for name in NETWORKS:
        if args.only in (None, name):
            results[name] = steps(name, args.rounds) | {"floor_mflop": floor(name)}
            print("  floor in MFLOP:", {key: round(value, 1) for key, value in floor(name).items()})
    write(args.json, results)


def compile_times() -> dict[str, Any]:
    found = {}
    compiled("BP", 20)  # warms up the compiler
    for method in ("BP", *METHODS):
        for n in (20, 200):
            found[f"{method}, n_relax {n}"] = row = compiled(method, n)
            print(
                f"{method:28} n_relax {n:4}  compile {row['seconds']:.2f} s  temporaries {row['temporary_mb']:.2f} MB"
            )
    return found


if __name__ == "__main__":
    main()

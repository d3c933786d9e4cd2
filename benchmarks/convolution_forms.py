"""Every form of a convolution and of its derivatives beside XLA's, and a training step with the automatic choice.

``python benchmarks/convolution_forms.py --json forms.json``. Seconds of all cores together, so that other programs
disturb little; ``taskset -c 0`` in front measures one core. Rounds are interleaved; the minimum of each form counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import timing

from neurai_core.layered import ConvForms, Convolution, Layered, avg_pool, conv, dense, flatten, max_pool

XLA = ConvForms("xla", "xla", "xla")
FORMS = {"forward": ("shifts", "pairs"), "inputs": ("patches",), "weights": ("chunks",)}
# batch, side, channels in, out, kernel, stride; VALID is without padding
SHAPES = {
    "VGG 1": (64, 32, 3, 32, 3, 1),
    "VGG 2": (64, 16, 32, 64, 3, 1),
    "VGG 3": (64, 8, 64, 64, 3, 1),
    "VGG 4": (64, 4, 64, 128, 3, 1),
    "LeNet 1": (64, 28, 1, 6, 5, 1),
    "LeNet 2": (64, 14, 6, 16, 5, 1),
    "cnn 1": (64, 28, 1, 8, 3, 1),
    "cnn 2": (64, 14, 8, 16, 3, 1),
    "wide first": (64, 28, 1, 32, 5, 1),
    "stride 2": (64, 32, 16, 32, 3, 2),
    "stride 2, wide": (64, 16, 64, 128, 3, 2),
    "batch 512": (512, 12, 12, 32, 5, 1),
    "spiking 2, VALID": (64, 12, 12, 32, 5, 1),
    "batch 512, VALID": (512, 12, 12, 32, 5, 1),
}


def forms(shape: tuple[int, ...], padding: str) -> dict[str, dict[str, Callable[[], Any]]]:
    """For each derivative, each form as a call; ``auto`` beside the form that it takes."""
    batch, side, channels, outputs, kernel, stride = shape
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    w = jax.random.normal(jax.random.key(1), (kernel, kernel, channels, outputs))
    convolution = Convolution((stride, stride), padding)
    g = jax.random.normal(jax.random.key(2), convolution(x, w).shape)
    chosen = convolution.chosen(x, w)
    calls: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
        "forward": lambda f, x, w, g: f(x, w),
        "inputs": lambda f, x, w, g: jax.vjp(lambda x: f(x, w), x)[1](g),
        "weights": lambda f, x, w, g: jax.vjp(lambda w: f(x, w), w)[1](g),
    }
    rows: dict[str, dict[str, Callable[[], Any]]] = {}
    for what, call in calls.items():
        for form in ("xla", *FORMS[what]):
            f = Convolution((stride, stride), padding, forms=ConvForms(**{**vars(XLA), what: form}))
            compiled = jax.jit(lambda x, w, g, f=f, call=call: call(f, x, w, g))
            taken = " (auto)" if getattr(chosen, what) == form else ""
            rows.setdefault(what, {})[form + taken] = lambda compiled=compiled: compiled(x, w, g)
    return rows


def network(name: str, pool: Any, how: ConvForms) -> tuple[Layered, tuple[int, ...]]:
    """A LeNet-like or a VGG-like network."""
    if name == "LeNet":
        stages = [conv(6, 5, activation="relu", forms=how), pool(2)]
        stages += [conv(16, 5, padding="VALID", activation="relu", forms=how), pool(2)]
        return Layered((*stages, flatten(), dense(120, "relu"), dense(84, "relu"), dense(10))), (28, 28, 1)
    stages = [part for width in (32, 64, 64, 128) for part in (conv(width, 3, activation="relu", forms=how), pool(2))]
    return Layered((*stages, flatten(), dense(10))), (32, 32, 3)


def steps(name: str, pool: Any) -> dict[str, Callable[[], Any]]:
    """Gradients of back-propagation with XLA's forms and with the automatic choice."""
    calls: dict[str, Callable[[], Any]] = {}
    for title, how in (("xla", XLA), ("auto", ConvForms())):
        model, shape = network(name, pool, how)
        params, _ = model.init(jax.random.key(0), shape)
        x, y = jax.random.normal(jax.random.key(1), (64, *shape)), jnp.arange(64) % 10

        def loss(params: Any, x: jax.Array, y: jax.Array, model: Layered = model) -> jax.Array:
            return -jnp.mean(jax.nn.log_softmax(model(params, x))[jnp.arange(64), y])

        compiled = jax.jit(jax.value_and_grad(loss))
        calls[title] = lambda compiled=compiled, params=params, x=x, y=y: compiled(params, x, y)
    return calls


def compare(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of processor time and of the clock per call, and both relative to the first; all minima."""
    for call in calls.values():
        jax.block_until_ready(call())
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            before = time.process_time(), time.perf_counter()
            jax.block_until_ready(call())
            used[name].append((time.process_time() - before[0], time.perf_counter() - before[1]))
    least = {name: [min(column) for column in zip(*times, strict=True)] for name, times in used.items()}
    base = next(iter(least.values()))
    return {
        name: {"ms": 1e3 * cpu, "ratio": cpu / base[0], "clock_ms": 1e3 * clock, "clock_ratio": clock / base[1]}
        for name, (cpu, clock) in least.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--shapes", default="", help="only shapes and networks whose names contain this")
    parser.add_argument("--json")
    args = parser.parse_args()
    results: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    print(f"JAX {jax.__version__}, {results['cores']} cores; ratio of processor time, ratio of the clock")
    tables = {
        f"{name}, {what}": row
        for name, shape in SHAPES.items()
        if args.shapes in name
        for what, row in forms(shape, "VALID" if "VALID" in name else "SAME").items()
    }
    pools = {"average": avg_pool, "maximum": max_pool}
    tables |= {
        f"step of {name}, {kind}": steps(name, pool)
        for name in ("LeNet", "VGG")
        if args.shapes in name
        for kind, pool in pools.items()
    }
    for title, calls in tables.items():
        results[title] = compare(calls, args.rounds)
        (base, least), *others = results[title].items()
        for name, row in others:
            print(
                f"{title:24} {base:12} {least['ms']:7.2f} ms   {name:14} {row['ms']:7.2f} ms "
                f"{row['ratio']:6.2f} {row['clock_ratio']:6.2f}",
                flush=True,
            )
    timing.write(args.json, results)


if __name__ == "__main__":
    main()

"""What does a training step of a spiking network cost beside its matrix products alone? Back-propagation
through time, Adam, two stages of LIF neurons, 100 steps, batch 64, float32. The floor is measured in the same run,
rounds interleaved, and so are the peers that are installed (feed-forward; see snn_peers.py).

taskset -c 0 python benchmarks/snn_step.py [--json FILE] [--shapes 784-256-10 ...] [--recurrent] [--steps 50 200 ...]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from snn_peers import ON_JAX, ON_TORCH, installed, torch_step
from timing import interleaved, ratios, report, write

import neurai_core as neurai
from neurai_core.losses import cross_entropy
from neurai_core.models.spiking import LIF, SpikingNetwork, snn

BATCH = 64
FORMS = {
    "hoisted": {"hoist": True},
    "first hoisted": {"hoist": (True, False)},
    "in the loop": {"hoist": False},
    "in the loop, unroll 4": {"hoist": False, "unroll": 4},
    "auto": {},
    "chunks of 10": {"chunk": 10},
    "differentiated by JAX": {"store": "all"},
}


def model_of(sizes: tuple[int, ...], recurrent: bool, **options: Any) -> SpikingNetwork:
    cell = LIF(0.9, detach_reset=False)
    spike = neurai.surrogate("superspike", alpha=10.0)
    return snn(sizes, surrogate=spike, cell=cell, output=cell, recurrent=recurrent, readout="mean", **options)


def products_only(params: Any, x: jax.Array, recurrent: bool) -> jax.Array:
    """The same products, each over all steps at once; a recurrent one has the hidden width as its fan-in."""
    first, second = params
    h = x @ first["input"]["w"] + first["input"]["b"]
    if recurrent:
        h = h + h @ first["recurrent"]
    return (h @ second["input"]["w"] + second["input"]["b"]).mean(axis=1)


def step_of(model: Callable[..., Any], params: Any, x: jax.Array, y: jax.Array) -> Any:
    """One compiled step, its compile time, its scratch memory and a call that repeats it."""
    optimizer = optax.adam(1e-3)

    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(lambda p: cross_entropy(model(p, x), y))(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    lowered = jax.jit(step).lower(params, state, x, y)
    began = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    scratch = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return lambda: compiled(params, state, x, y), seconds, scratch


def peers(sizes: tuple[int, ...], x: jax.Array, y: jax.Array) -> dict[str, Any]:
    """A step of each peer that is installed, with what is not known about torch's left open."""
    found, time_first = {}, np.asarray(x.swapaxes(0, 1))
    for name, make in installed(ON_JAX).items():
        model, params = make(sizes)
        found[name] = step_of(model, params, jnp.asarray(time_first), y)
    for name, make in installed(ON_TORCH).items():
        found[name] = torch_step(make(sizes), time_first, np.asarray(y, np.int64)), math.nan, math.nan
    return found


def compare(
    sizes: tuple[int, ...], steps_in_time: int, recurrent: bool, forms: list[str], rounds: int, calls: int
) -> dict[str, Any]:
    x = jax.random.bernoulli(jax.random.key(1), 0.1, (BATCH, steps_in_time, sizes[0])).astype(jnp.float32)
    y = jax.random.randint(jax.random.key(2), (BATCH,), 0, sizes[-1])
    params, _ = model_of(sizes, recurrent).init(jax.random.key(0), (steps_in_time, sizes[0]))
    models: dict[str, Callable[..., Any]] = {"products only": lambda p, x: products_only(p, x, recurrent)}
    models |= {name: model_of(sizes, recurrent, **options) for name, options in FORMS.items() if name in forms}
    steps = {name: step_of(model, params, x, y) for name, model in models.items()}
    steps |= {} if recurrent else peers(sizes, x, y)
    rows = ratios(interleaved({name: made[0] for name, made in steps.items()}, rounds, calls), "products only")
    for name, (_, seconds, scratch) in steps.items():
        rows[name] |= {"compile_s": seconds, "scratch_mb": scratch}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--shapes", nargs="+", default=["784-256-10", "700-128-20", "64-1024-10"])
    parser.add_argument("--steps", nargs="+", type=int, default=[100], help="numbers of steps T")
    parser.add_argument("--recurrent", action="store_true", help="recurrent hidden stage")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), help="of ours")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    results = {}
    for shape, steps in product(args.shapes, args.steps):
        sizes = tuple(map(int, shape.split("-")))
        name = f"{shape}, T = {steps}{', recurrent' if args.recurrent else ''}"
        rows = results[name] = compare(sizes, steps, args.recurrent, args.forms, args.rounds, calls=3)
        report(name, rows)
        for form, row in rows.items():
            print(f"  {form:32} compile {row['compile_s']:5.2f} s   scratch {row['scratch_mb']:6.1f} MB")
    write(args.json, results)


if __name__ == "__main__":
    main()

"""What does predictive coding cost? Every mode against back-propagation, strict against its floor, and compiling.

python benchmarks/pc_cost.py [--json FILE] [--rounds N]

A step is the rule's gradients and one SGD update, float32, batch 128, n = 20, eta = 0.1, relu, half squared error,
processor time on one core. The floor of strict predictive coding counts multiply-accumulates per sample, with
W_l = inputs * outputs of layer l, H their sum over l >= 2 and W_l' those of hidden layers l >= 2:

    back-propagation   2 W_1 + 3 H
    strict             2 W_1 + (2 n + 1) H + W'                                          predictions once per sweep
    strict, light cone 2 W_1 + 2 H + sum over sweeps t of what can have moved + W'

and takes the time per multiply-accumulate from the bare matrix products of back-propagation, run in between. The bare
products of the cone itself stand beside it: they tell how much of what is above the floor are products.
"""

from __future__ import annotations

import pc_timing

pc_timing.pin()

import argparse  # noqa: E402  (the pin comes before JAX makes its threads)
import itertools  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
from timing import write  # noqa: E402

from neurai_algorithms.predictive_coding.rule import build  # noqa: E402
from neurai_algorithms.predictive_coding.spec import PCConfig  # noqa: E402
from neurai_core.losses import squared_error  # noqa: E402
from neurai_core.models import mlp  # noqa: E402
from neurai_core.rule import Rule, objective, true_gradient  # noqa: E402

BATCH, SWEEPS = 128, 20
NETS = {"784-256-256-10": (784, 256, 256, 10), "784, 19 x 128, 10 (20 layers)": (784, *[128] * 19, 10)}


def problem(sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    model = mlp(sizes)
    params, _ = model.init(jax.random.key(0), sizes[:1])
    x = jax.random.normal(jax.random.key(1), (BATCH, sizes[0]))
    return model, params, (x, jax.random.randint(jax.random.key(2), (BATCH,), 0, sizes[-1]))


def pc(**settings: Any) -> Rule:
    return build(PCConfig(**settings), loss=squared_error)


def bp() -> Rule:
    score = objective(squared_error, None)
    return Rule(lambda *_: (), lambda m, p, s, b, *, key=None: true_gradient(score, m, p, s, b), lambda *_: None)


def training_step(rule: Rule, model: Any) -> Any:
    def step(params: Any, batch: Any) -> Any:
        found, _ = rule.estimate(model, params, (), batch)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, found.grads), found.loss

    return jax.jit(step)


def macs(sizes: tuple[int, ...]) -> dict[str, int]:
    """Multiply-accumulates per sample."""
    w = [a * b for a, b in itertools.pairwise(sizes)]
    depth, h = len(w), sum(w[1:])
    last = sum(w[1:-1])  # the activations' slopes at the final activities; the output layer is linear
    cone = 0
    for t in range(SWEEPS):
        lowest = max(1, depth - t - 1)  # index of the lowest layer whose transpose is needed
        cone += sum(w[lowest:]) + sum(w[max(1, depth - t) :])
    return {
        "bp": 2 * w[0] + 3 * h,
        "loop": 2 * w[0] + (2 * SWEEPS + 1) * h + last,
        "cone": 2 * w[0] + 2 * h + cone + last,
    }


def bare_products(params: Any, x: jax.Array) -> Callable[[], Any]:
    """The matrix products of back-propagation and nothing else."""

    @jax.jit
    def run(weights: list[jax.Array], x: jax.Array) -> Any:
        below = [x]
        for w in weights:
            below.append(below[-1] @ w)
        back, products = below.pop(), []
        for w, h in zip(reversed(weights), reversed(below), strict=True):
            products.append(h.T @ back)
            back = back @ w.T if h is not x else back
        return products

    weights = [own["w"] for own in params]
    return lambda: run(weights, x)


def bare_cone(params: Any, x: jax.Array) -> Callable[[], Any]:
    """The matrix products of strict predictive coding with its light cone and nothing else, in the same order."""

    @jax.jit
    def run(weights: list[jax.Array], x: jax.Array) -> Any:
        activities = [x]
        for w in weights:
            activities.append(activities[-1] @ w)
        depth = len(weights)
        errors, deltas = {depth: activities[-1]}, {}  # by layer; what is missing has not been reached
        for _ in range(SWEEPS):
            predicted = {l + 1: d @ weights[l] for l, d in deltas.items()}
            errors = {depth: errors[depth]} | deltas | predicted
            deltas = {l - 1: e @ weights[l - 1].T for l, e in errors.items() if l > 1}
        learnt = [v.T @ errors.get(l, activities[l]) for l, v in enumerate(activities[:-1], 1)]
        return learnt, [d @ weights[l] for l, d in deltas.items() if l < depth - 1]

    weights = [own["w"] for own in params]
    return lambda: run(weights, x)


def costs(sizes: tuple[int, ...], rounds: int) -> dict[str, dict[str, float]]:
    model, params, batch = problem(sizes)
    rules = {
        "bp": bp(),
        "exact": pc(mode="exact"),
        "fixed_pred, n=20": pc(mode="fixed_pred"),
        "fixed_pred, n=1000": pc(mode="fixed_pred", n=1000),
        "strict, light cone": pc(),
        "strict, loop": pc(light_cone=False),
    }
    steps = {name: training_step(rule, model) for name, rule in rules.items()}
    functions = {name: (lambda step=step: step(params, batch)) for name, step in steps.items()}
    functions["bare products of bp"] = bare_products(params, batch[0])
    functions["bare products of the cone"] = bare_cone(params, batch[0])
    seconds = pc_timing.interleaved(functions, rounds, 10)
    rows = pc_timing.compared(seconds, "bp")
    counts = macs(sizes)
    per_mac = {key: rows["bare products of bp"][key] / counts["bp"] for key in ("ms_min", "ms_median")}
    floors = {"bp": "bp", "strict, light cone": "cone", "strict, loop": "loop", "bare products of the cone": "cone"}
    for name, count in ((name, counts[key]) for name, key in floors.items()):
        rows[name] |= {f"floor_{key[3:]}": rows[name][key] / (per_mac[key] * count) for key in per_mac}
    for row in rows.values():
        row.setdefault("floor_min", float("nan"))
        row.setdefault("floor_median", float("nan"))
    return rows


def compile_seconds(depth: int, rule: Rule) -> dict[str, float]:
    """Processor time from the function to its first executable, tracing included."""
    model, params, batch = problem((784, *[128] * (depth - 1), 10))
    start = time.process_time()
    training_step(rule, model).lower(params, batch).compile()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    for title, sizes in NETS.items():
        results[title] = costs(sizes, args.rounds)
        pc_timing.table(f"{title}: MACs per sample {macs(sizes)}", results[title])
    deep = results["784, 19 x 128, 10 (20 layers)"]
    gain = {key: deep["strict, loop"][key] / deep["strict, light cone"][key] for key in ("ms_min", "ms_median")}
    print(f"\nlight cone on 20 layers: {gain['ms_min']:.2f} x faster (minima), {gain['ms_median']:.2f} (medians)")
    kinds = {
        "bp": bp(),
        "fixed_pred": pc(mode="fixed_pred"),
        "strict": pc(n=60),
        "strict, loop": pc(n=60, light_cone=False),
    }
    compile_seconds(2, bp())  # warms up the compiler
    growth = {
        str(depth): {name: compile_seconds(depth, rule) for name, rule in kinds.items()}
        for depth in (5, 10, 20, 40, 80)
    }
    pc_timing.table("seconds to compile by number of layers, n = 60", growth)
    twenty = {"20, n=20": {"strict": compile_seconds(20, pc())}}
    pc_timing.table("seconds to compile the 20-layer step", twenty)
    write(args.json, results | {"light cone": gain, "compile": growth | twenty})


if __name__ == "__main__":
    main()

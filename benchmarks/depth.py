"""Does depth matter? Residual networks of 8 to 128 layers by bp, pc and ep at one learning rate for all depths.

python benchmarks/depth.py [--depths 8 30 64 128] [--rules ...] [--parametrizations ...] [--steps 300] [--seeds 1]
                           [--set KEY=VALUE ...] [--json FILE] [--picture FILE]

`resmlp` 128 wide on Fashion-MNIST: mean cross entropy, 300 steps of 64 with Adam along a cosine. Nothing is set of a
rule but its mode or coordinates, and what `--set` says; those called long take larger steps, and four sweeps for every
layer. Cells that stand in the JSON file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import jax
import jax.numpy as jnp
import optax
from any_network import value
from timing import write

import neurai_core as neurai
from neurai_core.models import resmlp

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "bp": ("bp", {}),
    "pc error": ("pc", {"mode": "error"}),
    "pc": ("pc", {}),
    "ep": ("ep", {}),
    "ep errors": ("ep", {"coordinates": "errors"}),
    "pc long": ("pc", {"eta": 0.3}),
    "ep long": ("ep", {"dt": 0.15}),
}
LONG = {
    "pc long": "n",
    "ep long": "n_relax",
}  # the setting that counts sweeps, of rules that take more in deep networks
SWEEPS = 4  # of these for every layer
RATES = {"standard": 1e-3, "depth": 1e-3, "mupc": 1e-1}  # of Adam, chosen for bp at depth 8
WIDTH, BATCH = 128, 64


def train(
    rule_name: str, depth: int, parametrization: Any, seed: int, steps: int, more: dict[str, Any]
) -> dict[str, float]:
    """One training: test accuracy, and milliseconds per step."""
    data = neurai.dataset("fashion-mnist")
    x, x_test = (jnp.asarray(part).reshape(len(part), -1) for part in (data.x_train, data.x_test))
    y, y_test = jnp.asarray(data.y_train), jnp.asarray(data.y_test)
    name, settings = RULES[rule_name]
    if rule_name in LONG:
        settings = {**settings, LONG[rule_name]: SWEEPS * depth}
    rule = neurai.algorithm(name, loss="cross_entropy", **settings, **({} if name == "bp" else more))
    model = resmlp(WIDTH, depth, 10, parametrization=parametrization)
    params, _ = model.init(jax.random.key(seed), x.shape[1:])
    optimizer = optax.adam(optax.cosine_decay_schedule(RATES[parametrization], steps))
    rows = jax.random.permutation(jax.random.key(seed + 1), len(x))[: steps * BATCH].reshape(steps, BATCH)

    def step(carry: Any, rows: jax.Array) -> Any:
        params, state, moments = carry
        found, state = rule.estimate(model, params, state, (x[rows], y[rows]))
        updates, moments = optimizer.update(found.grads, moments, params)
        return (optax.apply_updates(params, updates), state, moments), found.loss

    carry = params, rule.init(model, params, key=jax.random.key(seed)), optimizer.init(params)
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, rows)).lower(carry).compile()
    began = time.perf_counter()
    (params, _, _), losses = jax.block_until_ready(run(carry))
    seconds = time.perf_counter() - began
    right = jnp.mean(jnp.argmax(model(params, x_test), axis=-1) == y_test)
    return {"accuracy": float(right), "first_loss": float(losses[0]), "step_ms": 1e3 * seconds / steps}


Lines = dict[tuple[str, str], dict[int, float]]


def lines_of(results: dict[str, Any]) -> Lines:
    """Accuracy, mean over seeds, by (parametrization, rule) and depth."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for cell, result in results.items():
        parametrization, rule, depth, _ = cell.split(" | ")
        found.setdefault((parametrization, rule), {}).setdefault(int(depth), []).append(result["accuracy"])
    return {line: {depth: mean(each) for depth, each in points.items()} for line, points in found.items()}


def table(lines: Lines, depths: list[int]) -> str:
    """Accuracies, and their distance to bp on the same network in points."""
    rows = ["| parametrization | rule | " + " | ".join(f"{depth} layers" for depth in depths) + " |"]
    rows += ["| --- | --- |" + " ---: |" * len(depths)]
    for (parametrization, rule), points in lines.items():
        bp = lines.get((parametrization, "bp"), {}) if rule != "bp" else {}
        cells = [
            f"{points[depth]:.3f}" + (f" ({100 * (points[depth] - bp[depth]):+.1f})" if depth in bp else "")
            if depth in points
            else ""
            for depth in depths
        ]
        rows.append(f"| {parametrization} | `{rule}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def draw(lines: Lines, path: str) -> None:
    """Test accuracy over depth, one line per rule and parametrization."""
    import matplotlib.pyplot as plt

    colors = {
        "bp": "#0072B2",
        "pc error": "#D55E00",
        "pc error loss_scale=0.1": "#F0A080",
        "pc": "#E69F00",
        "ep": "#009E73",
        "ep errors": "#0B5345",
        "ep errors beta=0.01": "#0B5345",
        "pc long": "#CC79A7",
        "ep long": "#56B4E9",
    }
    styles = {"depth": ("-", "o"), "mupc": ("--", "s"), "standard": (":", "^")}
    figure, axes = plt.subplots(figsize=(6, 4.4), layout="constrained")
    for (parametrization, rule), points in lines.items():
        line, marker = styles[parametrization]
        depths, values = zip(*sorted(points.items()), strict=True)
        axes.plot(
            depths, values, line, marker=marker, color=colors.get(rule, "#777777"), label=f"{rule}, {parametrization}"
        )
    ticks = sorted({depth for points in lines.values() for depth in points})
    axes.set(xscale="log", xlabel="layers", ylabel="test accuracy")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    figure.legend(fontsize=8, ncols=3, loc="outside lower center")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", nargs="+", type=int, default=[8, 30, 64, 128])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=["bp", "pc error", "pc", "ep"])
    parser.add_argument("--parametrizations", nargs="+", choices=RATES, default=["depth", "mupc"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", type=value, default=[], metavar="KEY=VALUE", help="of all rules but bp")
    parser.add_argument("--json")
    parser.add_argument("--picture")
    args = parser.parse_args()
    label = "".join(f" {key}={setting}" for key, setting in args.set)
    saved = Path(args.json) if args.json else None
    results = json.loads(saved.read_text())["results"] if saved and saved.exists() else {}
    for cell in product(args.parametrizations, args.rules, args.depths, range(args.seeds)):
        parametrization, rule, depth, seed = cell
        name = f"{parametrization} | {rule}{'' if rule == 'bp' else label} | {depth} | {seed}"
        if name not in results:
            results[name] = train(rule, depth, parametrization, seed, args.steps, dict(args.set))
            write(args.json, results)
            print(name, results[name], flush=True)
    lines = lines_of(results)
    print(table(lines, args.depths))
    if args.picture:
        draw(lines, args.picture)


if __name__ == "__main__":
    main()

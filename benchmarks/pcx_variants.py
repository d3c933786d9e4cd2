"""The seven variants of the benchmark of predictive coding networks (Pinchetti et al. 2025, arXiv:2407.01163), here.

python benchmarks/pcx_variants.py [--variants ...] [--epochs 5] [--seeds 1] [--json FILE]

784-128-128-128-10 with GELU on Fashion-MNIST, batch 128, Adam with a learning rate of 1e-3 that falls to 0 along a
cosine. Each variant is one configuration: cross entropy or squared errors as the loss, clamped or nudged outputs. The
incremental one makes its own parameter steps, with Adam inside and momentum on its activities.
"""

from __future__ import annotations

import argparse
import time
from statistics import mean, stdev
from typing import Any

import jax
import jax.numpy as jnp
import optax
from timing import write

import neurai_core as neurai
from neurai_core.data import order
from neurai_core.models import mlp

SIZES, BATCH, RATE = (784, 128, 128, 128, 10), 128, 1e-3
SQUARES, CLASSES = "sum_squared_error", "cross_entropy"
SAMPLES: dict[str, Any] = {"loss_scale": "per_sample"}
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "BP-CE": ("bp", CLASSES, {}),
    "BP-SE": ("bp", SQUARES, {}),
    "PC-CE": ("pc", CLASSES, SAMPLES),
    "PC-SE": ("pc", SQUARES, {}),
    "PN": ("pc", SQUARES, {"nudge": "positive", "beta": 0.1}),
    "NN": ("pc", SQUARES, {"nudge": "negative", "beta": 0.1}),
    "CN": ("pc", SQUARES, {"nudge": "centered", "beta": 0.1}),
    "iPC": ("pc", CLASSES, {**SAMPLES, "mode": "incremental", "corrector": "sgd(0.05, momentum=0.5)"}),
}


def train(variant: str, epochs: int, seed: int) -> dict[str, float]:
    """Test accuracy at the end, and milliseconds per step."""
    data = neurai.dataset("fashion-mnist")
    x, x_test = (jnp.asarray(part).reshape(len(part), -1) for part in (data.x_train, data.x_test))
    y, y_test = jnp.asarray(data.y_train), jnp.asarray(data.y_test)
    name, loss, settings = VARIANTS[variant]
    count = len(x) // BATCH
    settings = dict(settings)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, epochs * count))
    if settings.get("mode") == "incremental":
        settings["optimizer"] = optax.adam(optax.cosine_decay_schedule(RATE / 5, 20 * epochs * count))
        optimizer = optax.sgd(1.0)
    rule, model = neurai.algorithm(name, loss=loss, **settings), mlp(SIZES, "gelu")
    params, _ = model.init(jax.random.key(seed), SIZES[:1])

    @jax.jit
    def run(carry: Any, rows: jax.Array) -> Any:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, state, moments = carry
            found, state = rule.estimate(model, params, state, (x[rows], y[rows]))
            updates, moments = optimizer.update(found.grads, moments, params)
            return (optax.apply_updates(params, updates), state, moments), found.loss

        return jax.lax.scan(step, carry, rows)

    carry, seconds = (params, rule.init(model, params, key=jax.random.key(seed)), optimizer.init(params)), []
    for epoch in range(epochs):
        rows = order(seed, epoch, len(x))[: count * BATCH].reshape(count, BATCH)
        began = time.perf_counter()
        carry, _ = jax.block_until_ready(run(carry, rows))
        seconds.append((time.perf_counter() - began) / count)
    right = jnp.mean(jnp.argmax(model(carry[0], x_test), axis=-1) == y_test)
    return {"accuracy": float(right), "step_ms": 1e3 * min(seconds)}


def main() -> None:
    """Train what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    print("| variant | rule and settings | loss | test accuracy | ms per step |\n| --- | --- | --- | ---: | ---: |")
    for variant in args.variants:
        found = [train(variant, args.epochs, seed) for seed in range(args.seeds)]
        results[variant] = found
        write(args.json, results)
        name, loss, settings = VARIANTS[variant]
        scores = [one["accuracy"] for one in found]
        spread = f" ± {stdev(scores):.4f}" if len(scores) > 1 else ""
        said = ", ".join([f"`{name}`", *(f"`{key}={value}`" for key, value in settings.items())])
        fastest = min(one["step_ms"] for one in found)
        print(f"| {variant} | {said} | `{loss}` | {mean(scores):.4f}{spread} | {fastest:.1f} |", flush=True)


if __name__ == "__main__":
    main()

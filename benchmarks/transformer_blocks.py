"""Does predictive coding train transformers at its defaults? bp and pc side by side, mean and deviation over seeds.

python benchmarks/transformer_blocks.py [--data digits fashion-mnist] [--blocks 2 4] [--rules ...] [--seeds 2]
                                        [--epochs N] [--examples N] [--json FILE]

The rows of an image are the tokens: 8 of 8 pixels for digits, 28 of 28 for fashion-mnist. The model is a plain Flax NNX
one: an embedding, pre-norm blocks of attention and an MLP (32 wide, 4 heads), a head that normalizes, takes the mean
over the tokens and classifies. `neurai.as_layered` makes one layer of each. Mean cross entropy, batch 64, Adam with a
learning rate of 2e-3 that falls to 0 along a cosine; nothing is set of a rule but its mode and the loss.

Beside the accuracies stand what the relaxations of all steps say of themselves: the smallest factor on the documented
step, the largest change of the energy (above 0 it rose), and the number of steps in which it rose.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import mean, stdev
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from timing import write

import neurai_core as neurai
from neurai_core.data import Dataset, order

RULES: dict[str, dict[str, Any]] = {
    "bp": {},
    "pc": {},
    "pc fixed_pred": {"mode": "fixed_pred"},
    "pc error": {"mode": "error"},
}
EPOCHS = {"digits": 25, "fashion-mnist": 1}
BATCH, RATE = 64, 2e-3
WIDTH, HEADS = 32, 4


class Rows(nnx.Module):
    """Embeds the rows of images, (B, H, W, 1) -> (B, H, D), and says where each stands."""

    def __init__(self, height: int, width: int, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Linear(width, WIDTH, rngs=rngs)
        self.place = nnx.Param(0.02 * rngs.params.normal((height, WIDTH)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.embed(x[..., 0]) + self.place[...]


class Block(nnx.Module):
    """Attention, then an MLP, each beside its input and after a normalization; (B, T, D) -> (B, T, D)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.before_attention = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.before_mlp = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.before_attention(x))
        return x + self.down(nnx.gelu(self.up(self.before_mlp(x))))


class Head(nnx.Module):
    """Normalizes, takes the mean over the tokens, classifies; (B, T, D) -> (B, C)."""

    def __init__(self, classes: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.classify = nnx.Linear(WIDTH, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classify(self.norm(x).mean(axis=1))


def transformer(data: Dataset, blocks: int, seed: int) -> nnx.Sequential:
    """The model for a data set of images."""
    rngs = nnx.Rngs(seed)
    embed = Rows(*data.input_shape[:2], rngs)
    return nnx.Sequential(embed, *(Block(rngs) for _ in range(blocks)), Head(len(data.classes or ()), rngs))


def train(rule_name: str, data: Dataset, blocks: int, seeds: int, epochs: int) -> dict[str, Any]:
    """Train once per seed; one compiled epoch for all."""
    rule = neurai.algorithm(rule_name.split()[0], loss="cross_entropy", **RULES[rule_name])
    count = len(data.x_train) // BATCH
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, epochs * count))
    model, _, _ = neurai.as_layered(transformer(data, blocks, 0))
    run, score = compiled(rule, model, optimizer, data)
    accuracies, seen, seconds = [], [], []
    for seed in range(seeds):
        _, params, _ = neurai.as_layered(transformer(data, blocks, seed))
        carry = params, rule.init(model, params, key=jax.random.key(seed)), optimizer.init(params)
        for epoch in range(epochs):
            rows = order(seed, epoch, len(data.x_train))[: count * BATCH].reshape(count, BATCH)
            began = time.perf_counter()
            carry, said = jax.block_until_ready(run(carry, rows))
            seconds.append((time.perf_counter() - began) / count)
            seen.append(said)
        accuracies.append(float(score(carry[0])))
    found: dict[str, Any] = {"accuracy": accuracies, "step_ms": 1e3 * min(seconds)}
    if "step_scale" in seen[0]:
        changes = jnp.concatenate([said["energy_change"] for said in seen])
        found["step_scale"] = float(min(said["step_scale"].min() for said in seen))
        found["energy_change"], found["rises"] = float(changes.max()), int((changes > 0).sum())
    return found


def compiled(rule: Any, model: Any, optimizer: Any, data: Dataset) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """One epoch, ``(carry, rows) -> (carry, what each step says)``, and the test accuracy of params."""
    x, y, x_test, y_test = map(jnp.asarray, (data.x_train, data.y_train, data.x_test, data.y_test))

    @partial(jax.jit, donate_argnums=0)
    def run(carry: Any, rows: jax.Array) -> Any:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, state, moments = carry
            found, state = rule.estimate(model, params, state, (x[rows], y[rows]))
            updates, moments = optimizer.update(found.grads, moments, params)
            said = {name: found.aux[name] for name in ("step_scale", "energy_change") if name in found.aux}
            return (optax.apply_updates(params, updates), state, moments), said

        return jax.lax.scan(step, carry, rows)

    return run, jax.jit(lambda params: jnp.mean(jnp.argmax(model(params, x_test), axis=-1) == y_test))


def table(results: dict[str, Any]) -> str:
    """One row per training, pc beside bp on the same model."""
    lines = ["| data | blocks | rule | test accuracy | to bp | step scale | energy change | rises |"]
    lines += ["| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, found in results.items():
        data, blocks, rule = name.split(" | ")
        reference = results.get(f"{data} | {blocks} | bp") if rule != "bp" else None
        scores = found["accuracy"]
        text = f"{mean(scores):.4f} ± {stdev(scores) if len(scores) > 1 else 0:.4f}"
        points = f"{100 * (mean(scores) - mean(reference['accuracy'])):+.1f}" if reference else ""
        said = ["", "", ""]
        if "rises" in found:
            said = [f"{found['step_scale']:.3f}", f"{found['energy_change']:.1e}", str(found["rises"])]
        lines.append(f"| {' | '.join((data, blocks, rule, text, points, *said))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits"], choices=EPOCHS)
    parser.add_argument("--blocks", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="instead of those of each data set")
    parser.add_argument("--examples", type=int, help="train on the first of them only")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name, blocks, rule in product(args.data, args.blocks, args.rules):
        data = neurai.dataset(name)
        if args.examples:
            data = replace(data, x_train=data.x_train[: args.examples], y_train=data.y_train[: args.examples])
        found = train(rule, data, blocks, args.seeds, args.epochs or EPOCHS[name])
        results[f"{name} | {blocks} | {rule}"] = found
        print(f"{name} | {blocks} | {rule}: {found}", flush=True)
        write(args.json, results)
    print(table(results))


if __name__ == "__main__":
    main()

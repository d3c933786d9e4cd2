"""What bidirectional predictive coding reaches: accuracy, generated classes, reconstructions and inpainting.

python benchmarks/bipc_quality.py [--data digits] [--only KIND] [--seeds 5] [--epochs N] [--picture PNG] [--json FILE]

digits: 64-128-64-10 tanh, Adam 3e-3, batch 32, 60 epochs. Fashion-MNIST: 784-256-128-10 tanh, Adam 2e-3, batch 128,
10 epochs. The rate falls to 0 along a cosine. Beside both kinds of weights: shared ones with half the weight of the way
down (alpha_b = 0.05), and without it (alpha_b = 0). Generation is the mean squared error between the image generated
for a class and the test images of that class; the class means of the test images are the floor.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from epochs import adam, epochs
from timing import write

import neurai_core as neurai
from neurai_algorithms.bidirectional.api import BiPC, two_way
from neurai_core.models import mlp
from neurai_core.report.generation import figures_of, generation, made_by

TASKS: dict[str, Any] = {
    "digits": ((64, 128, 64, 10), 3e-3, 32, 60),
    "fashion-mnist": ((784, 256, 128, 10), 2e-3, 128, 10),
}
KINDS: dict[str, Any] = {
    "shared": {"mode": "sweight_bistrict"},
    "shared, less": {"mode": "sweight_bistrict", "alpha_b": 0.05},
    "separate": {"mode": "bistrict"},
    "one-way": {"mode": "sweight_bistrict", "alpha_b": 0.0},
}


def train(rule: BiPC, model: Any, data: Any, rate: float, size: int, count: int, seed: int) -> Any:
    x, y = jnp.asarray(data.x_train).reshape(len(data.x_train), -1), jnp.asarray(data.y_train)
    params = rule.init(model, jax.random.key(seed), x.shape[1:])
    optimizer = adam(rate, count * (len(x) // size))
    *_, trained = epochs(rule, model, optimizer, params, x, y, size, count, seed)
    return trained


def line(kind: str, row: dict[str, Any]) -> str:
    inner = ", ".join(f"{value:.4f}" for value in row["reconstruction_mse"])
    return (
        f"{kind:12} accuracy {row['accuracy']:.4f} generation {row['generation_mse']:.4f} "
        f"(floor {row['generation_floor']:.4f}) recognized {row['recognized']} reconstruction {inner} "
        f"lower half {row['lower_half_mse']:.4f} with label {row['lower_half_with_label_mse']:.4f} "
        f"(mean image {row['lower_half_of_mean_image_mse']:.4f})"
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Mean and deviation over the seeds of every figure."""
    flat = [row | {f"layer_{k}": value for k, value in enumerate(row["reconstruction_mse"], 1)} for row in rows]
    names = [name for name, value in flat[0].items() if not isinstance(value, list)]
    return {name: f"{np.mean([r[name] for r in flat]):.4f} +- {np.std([r[name] for r in flat]):.4f}" for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=TASKS, default="digits")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--picture", help="write the picture of the first run to this PNG file")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    sizes, rate, size, count = TASKS[args.data]
    data, model, results = neurai.dataset(args.data), mlp(sizes, "tanh"), {}
    for kind, settings in KINDS.items():
        if args.only not in (None, kind):
            continue
        rule = BiPC("sum_squared_error", "sum_squared_error", "accuracy", **settings)
        results[kind] = []
        for seed in range(args.seeds):
            params = train(rule, model, data, rate, size, args.epochs or count, seed)
            made = made_by(rule.rule(), two_way(model, rule.shared), params, data)
            accuracy = float(rule.predict(model, params, (jnp.asarray(made.x), jnp.asarray(made.y)))[1])
            results[kind].append({"accuracy": accuracy, **figures_of(made)})
            print(line(kind, results[kind][-1]), flush=True)
            if args.picture and kind == "shared" and seed == 0:
                generation(made, Path(args.picture))
        print("\n".join(f"{kind:12} {name:28} {text}" for name, text in summary(results[kind]).items()), flush=True)
    write(args.json, results)


if __name__ == "__main__":
    main()

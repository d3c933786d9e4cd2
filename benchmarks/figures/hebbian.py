"""Sanger 1989, the masks of image coding: do units find the principal components of images, in order?

python benchmarks/figures/hebbian.py [--json FILE] [--units 8] [--epochs 200]

The paper learns eight masks of 8x8 pixels from one photograph and shows that they are its principal components. Here,
eight units learn from the 1437 training digits, 8x8 pixels, and the table gives, for each unit, the cosine between its
weights and the principal component of its number, and the variance of its output relative to that component's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import neurai_core as neurai
from neurai_core.data import batches
from neurai_core.models import mlp

sys.path.append(str(Path(__file__).parents[1]))
from timing import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    x = np.asarray(neurai.dataset("digits").x_train).reshape(-1, 64)
    variances, components = np.linalg.eigh(np.cov(x.T))
    variances, components = variances[::-1], components[:, ::-1]

    rule, model = neurai.algorithm("hebbian", loss="mse"), mlp((64, args.units))
    params, _ = model.init(jax.random.key(0), (64,))

    @jax.jit
    def step(params, x, lr):
        grads = rule.estimate(model, params, (), (x, jnp.zeros((len(x), 0))))[0].grads
        return jax.tree.map(lambda p, g: p - lr * g, params, grads)

    for epoch in range(args.epochs):
        for batch, _ in batches(x, np.zeros(len(x)), batch_size=64, seed=0, epoch=epoch):
            params = step(params, batch, 0.1 * (1 - epoch / args.epochs))
    w = np.asarray(params[0]["w"])
    cosines = np.abs(np.sum(w * components[:, : args.units], axis=0)) / np.linalg.norm(w, axis=0)
    shares = np.var((x - x.mean(axis=0)) @ w, axis=0) / variances[: args.units]
    print("| unit | cosine with its component | variance relative to it |\n| ---: | ---: | ---: |")
    for k, (cosine, share) in enumerate(zip(cosines, shares, strict=True), start=1):
        print(f"| {k} | {cosine:.4f} | {share:.3f} |")
    write(args.json, {"cosine": cosines.tolist(), "variance": shares.tolist()})


if __name__ == "__main__":
    main()

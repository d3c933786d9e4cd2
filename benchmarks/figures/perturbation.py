"""How much slower perturbation learns than gradient descent.

python benchmarks/figures/perturbation.py [--draws 40000] [--json FILE]

Werfel, Xie and Seung 2005, doi:10.1162/089976605774320539, abstract: at the step size at which each is fastest, node
perturbation is slower than gradient descent by the number of outputs, and weight perturbation by the number of inputs
times that. Here: a linear network with 20 inputs and 10 outputs, a linear teacher, normal inputs, one example at a
time. With the estimate g, a step of the best size takes the share E[g . d]^2 / (E|g|^2 |d|^2) of the squared distance
d to the teacher, whatever the distance is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import neurai_core as neurai
from neurai_core.arrays import tree_dot
from neurai_core.layered import Layered, dense

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from timing import write

INPUTS, OUTPUTS = 20, 10
REPORTED = {"bp": 1, "node-perturbation": OUTPUTS, "weight-perturbation": INPUTS * OUTPUTS}
SETTINGS: dict[str, dict[str, Any]] = {
    "bp": {},
    "node-perturbation": {"samples": 1},
    "weight-perturbation": {"samples": 1},
}


def share(name: str, draws: int) -> float:
    """Of the squared distance to the teacher, what a step of the best size takes on average."""
    model = Layered((dense(OUTPUTS, bias=False),))
    params, _ = model.init(jax.random.key(0), (INPUTS,))
    teacher, _ = model.init(jax.random.key(1), (INPUTS,))
    away = params[0]["w"] - teacher[0]["w"]
    rule = neurai.algorithm(name, loss="squared_error", **SETTINGS[name])

    def moments(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_x, of_rule = jax.random.split(key)
        x = jax.random.normal(of_x, (1, INPUTS))
        found, _ = rule.estimate(model, params, (), (x, model(teacher, x)), key=of_rule)
        g = found.grads[0]["w"]
        return tree_dot(g, away), tree_dot(g, g)

    keys = jax.random.split(jax.random.key(2), draws)
    along, size = jax.jit(lambda keys: jax.lax.map(moments, keys, batch_size=500))(keys)
    return float(along.mean() ** 2 / (size.mean() * jnp.sum(away**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40_000)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    shares = {name: share(name, arguments.draws) for name in REPORTED}
    factors = {name: shares["bp"] / one for name, one in shares.items()}
    print(f"{'rule':<22} reported   here")
    for name, factor in factors.items():
        print(f"{name:<22} {REPORTED[name]:8}   {factor:6.1f}")
    write(arguments.json, {"inputs": INPUTS, "outputs": OUTPUTS, "reported": REPORTED, "factors": factors})


if __name__ == "__main__":
    main()

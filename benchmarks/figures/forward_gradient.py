"""Forward gradients beside gradients: on the functions of Beale and Rosenbrock, and on the digits.

python benchmarks/figures/forward_gradient.py [--seeds 5] [--json FILE]

Baydin et al. 2022, arXiv:2202.08587, descend with forward gradients on test functions and on networks, as they do
with gradients. Here: 2000 steps of gradient descent from (1, 1.5) on the function of Beale, at a rate of 0.005, and
from (-1, 0) on that of Rosenbrock, at 0.0005, one direction each; and 64-64-10 with tanh units on the digits,
gradient descent at a rate of 0.02, batches of 64, 20 epochs, with 1, 4 and 16 directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from digits_run import last, run, script

import neurai_core as neurai

POINTS, STEPS = 3, 2000


def beale(p: jax.Array) -> jax.Array:
    """0 at (3, 1/2)."""
    x, y = p
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(p: jax.Array) -> jax.Array:
    """0 at (1, 1)."""
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


FUNCTIONS: dict[Callable[[jax.Array], jax.Array], tuple[tuple[float, float], float]] = {
    beale: ((1.0, 1.5), 0.005),
    rosenbrock: ((-1.0, 0.0), 0.0005),
}


def descended(name: str, function: Callable[[jax.Array], jax.Array], seed: int) -> dict[str, float]:
    """The value of a function on the way down."""
    start, rate = FUNCTIONS[function]
    settings = {"samples": 1} if name == "forward-gradient" else {}
    rule = neurai.algorithm(name, loss=lambda outputs, targets: outputs[0], **settings)
    batch = jnp.zeros((1, 1)), jnp.zeros(1)

    def model(p: jax.Array, x: jax.Array) -> jax.Array:
        return function(p)[None]

    def step(p: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        p = p - rate * rule.estimate(model, p, (), batch, key=key)[0].grads
        return p, function(p)

    _, values = jax.jit(lambda p, keys: jax.lax.scan(step, p, keys))(
        jnp.array(start), jax.random.split(jax.random.key(seed), STEPS)
    )
    marks = [STEPS * n // POINTS for n in range(1, POINTS + 1)]
    return {f"{function.__name__}, {name}, step {at}": float(values[at - 1]) for at in marks}


def figure(seed: int) -> dict[str, Any]:
    """Values of the functions, and errors on the digits."""
    found: dict[str, Any] = {}
    for function in FUNCTIONS:
        for name in ("bp", "forward-gradient"):
            found |= descended(name, function, seed)
    rules = {"bp": neurai.algorithm("bp")}
    for samples in (1, 4, 16):
        rules[f"{samples} directions"] = neurai.algorithm("forward-gradient", samples=samples)
    for name, rule in rules.items():
        found[f"digits, training error, {name}"] = last(run(rule, (64,), optax.sgd(0.02), 20, seed)).train_error
    return found


if __name__ == "__main__":
    script(__doc__, figure)

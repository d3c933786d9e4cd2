"""Train a chain of dense layers on the digits by any rule, watched after every epoch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import neurai_core as neurai
from neurai_core.models import mlp
from neurai_core.rule import initial_state, problem_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from timing import write

BATCH = 64


class Epoch(NamedTuple):
    """Where a run is after an epoch: model and rule with what they carry, and its errors in percent."""

    rule: Any
    model: Any
    params: Any
    state: Any
    train_error: float
    test_error: float


def run(
    rule: Any,
    hidden: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    epochs: int,
    seed: int,
    activation: str = "tanh",
) -> Iterator[Epoch]:
    """Training in batches of 64; the first epoch that is reported is the start."""
    data = neurai.dataset("digits")
    x, y, *test = (
        np.reshape(one, (len(one), -1)) if one.ndim > 1 else one
        for one in (data.x_train, data.y_train, data.x_test, data.y_test)
    )
    model = mlp((x.shape[1], *hidden, 10), activation)
    params, _ = model.init(jax.random.key(seed), x.shape[1:])
    if extended := getattr(rule, "extended", None):
        model, params = extended(model, params, key=jax.random.key(seed + 1), input_shape=x.shape[1:])
    problem = problem_of((x[:BATCH], y[:BATCH]), 10)
    state = initial_state(rule, model, params, key=jax.random.key(seed + 2), problem=problem)
    momenta = optimizer.init(params)

    @jax.jit
    def epoch(carry: Any, rows: jax.Array, key: jax.Array) -> Any:
        def step(carry: Any, given: Any) -> Any:
            params, momenta, state = carry
            rows, key = given
            found, state = rule.estimate(model, params, state, (x[rows], y[rows]), key=key)
            changes, momenta = optimizer.update(found.grads, momenta, params)
            return (optax.apply_updates(params, changes), momenta, state), None

        return jax.lax.scan(step, carry, (rows, jax.random.split(key, len(rows))))[0]

    x, y = jax.numpy.asarray(x), jax.numpy.asarray(y)
    error = jax.jit(lambda params, x, y: 100 * (rule.predict(model, params, x).argmax(-1) != y).mean())
    for number in range(epochs + 1):
        yield Epoch(rule, model, params, state, float(error(params, x, y)), float(error(params, *test)))
        order = np.random.default_rng([seed, number]).permutation(len(x))
        rows = order[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
        params, momenta, state = epoch((params, momenta, state), rows, jax.random.key(number))


def last(epochs: Iterator[Epoch]) -> Epoch:
    """The end of a run."""
    *_, end = epochs
    return end


def script(text: str | None, figure: Callable[[int], dict[str, Any]]) -> None:
    """Draw a figure for every seed, and write the numbers as JSON if asked."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    found = [figure(seed) for seed in range(arguments.seeds)]
    for name in found[0]:
        values = [one[name] for one in found]
        print(f"{name:<44} {np.mean(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")
    write(arguments.json, {"seeds": found})

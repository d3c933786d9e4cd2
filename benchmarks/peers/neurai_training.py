"""Our own training for pc_training.py."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax
import training

import neurai_core as neurai
from neurai_core.models import mlp

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "bp": ("bp", {}),
    "strict": ("pc", {"eta": 0.05, "n": 20, "loss_scale": "per_sample"}),
    "error": ("pc", {"mode": "error"}),
    "defaults": ("pc", {}),
}


def main() -> None:
    warnings.simplefilter("ignore")
    work = training.asked()
    name, settings = METHODS[work.method]
    model = mlp(work.sizes, work.activation)
    rule = neurai.algorithm(name, loss="cross_entropy", **settings)
    optimizer = optax.adamw(training.RATE, weight_decay=training.DECAY)
    params: Any = tuple({"w": jnp.asarray(w), "b": jnp.zeros(w.shape[1])} for w in training.weights(work))
    carry = params, rule.init(model, params, key=jax.random.key(work.seed)), optimizer.init(params)

    @jax.jit
    def update(carry: Any, batch: Any) -> Any:
        params, state, moments = carry
        found, state = rule.estimate(model, params, state, batch)
        changes, moments = optimizer.update(found.grads, moments, params)
        return optax.apply_updates(params, changes), state, moments

    def step(x: Any, y: Any) -> None:
        nonlocal carry
        carry = update(carry, (x, y))

    training.answer(work, step, lambda x: model(carry[0], x), lambda: jax.block_until_ready(carry))


if __name__ == "__main__":
    main()

"""jpc's optax relaxation for pc_peers.py: as its documentation writes the loop, and the same loop inside one jit."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jpc
import optax
import worker


def network(weights: list[Any]) -> list[Any]:
    """jpc's own perceptron, with our weights."""
    layers = []
    for index, w in enumerate(weights):
        linear = eqx.nn.Linear(*w.shape, key=jax.random.key(0))
        linear = eqx.tree_at(lambda own: (own.weight, own.bias), linear, (jnp.asarray(w.T), jnp.zeros(w.shape[1])))
        after = [] if index == len(weights) - 1 else [eqx.nn.Lambda(jax.nn.relu)]
        layers.append(eqx.nn.Sequential([linear, *after]))
    return layers


def training_step(model: Any, x: Any, y: Any, optimizer: Any, carry: Any, mover: Any) -> Any:
    activities = jpc.init_activities_with_ffwd(model=model, input=x)
    moved = mover.init(activities)
    for _ in range(worker.SWEEPS):
        found = jpc.update_pc_activities((model, None), activities, mover, moved, output=y, input=x)
        activities, moved = found["activities"], found["opt_state"]
    found = jpc.update_pc_params((model, None), activities, optimizer, carry, output=y, input=x)
    return found["model"], found["opt_state"]


def main() -> None:
    _, weights, x, y = worker.problem()
    x, y, model = jnp.asarray(x), jnp.asarray(y), network(weights)
    optimizer, mover = optax.sgd(worker.RATE), optax.sgd(worker.ETA)
    carry = optimizer.init((eqx.filter(model, eqx.is_array), None))
    whole = eqx.filter_jit(lambda model, x, y, carry: training_step(model, x, y, optimizer, carry, mover))

    def ended(result: Any) -> None:
        jax.block_until_ready(eqx.filter(result, eqx.is_array))

    worker.serve(
        {
            "jpc, as documented": lambda: ended(training_step(model, x, y, optimizer, carry, mover)),
            "jpc, in one jit": lambda: ended(whole(model, x, y, carry)),
        },
        f"jax {jax.__version__}",
    )


if __name__ == "__main__":
    main()

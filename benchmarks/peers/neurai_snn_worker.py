"""The spiking convolutional network of this library, with pooling before and after the spike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import spikes
import worker

import neurai_core as neurai
from neurai_core.layered import avg_pool, block, conv, dense, flatten, max_pool
from neurai_core.losses import cross_entropy
from neurai_core.models.spiking import LIF, SpikingNetwork, Stage


def network(pool: str, after: bool, **options: Any) -> SpikingNetwork:
    """Pooled currents charge the neurons, or pooled spikes enter the next stage."""
    pools = {"average": avg_pool, "max": max_pool}[pool](2)
    first, second = (conv(width, spikes.KERNEL, padding="VALID", bias=False) for width in spikes.CHANNELS)
    last = [flatten(), dense(spikes.CLASSES, bias=False)]
    if after:
        synapses = [first, block(pools, second), block(pools, *last)]
    else:
        synapses = [block(first, pools), block(second, pools), block(*last)]
    cell = LIF(spikes.DECAY, detach_reset=False)
    surrogate = neurai.surrogate("superspike", alpha=spikes.SLOPE)
    return SpikingNetwork(tuple(Stage(one, cell) for one in synapses), surrogate, readout="mean", **options)


def with_weights(tree: Any, weights: list[Any]) -> Any:
    """Parameters with the weights of the problem, in their order."""
    return jax.tree.unflatten(jax.tree.structure(tree), list(map(jnp.asarray, weights)))


def step(model: SpikingNetwork, params: Any, x: jax.Array, y: jax.Array) -> tuple[Callable[[], Any], float]:
    """One update that waits for its result, and its scratch memory in MB."""
    optimizer = optax.adam(1e-3)

    def update(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(lambda p: cross_entropy(model(p, x), y))(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    compiled = jax.jit(update).lower(params, state, x, y).compile()
    scratch = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return lambda: jax.block_until_ready(compiled(params, state, x, y)), scratch


def main() -> None:
    pool, weights, x, y = spikes.problem()
    batch = jnp.asarray(x).swapaxes(0, 1), jnp.asarray(y)
    models = {
        "neurai": network(pool, after=False),
        "neurai, hoisted": network(pool, after=False, hoist=True),
        "neurai, in the loop": network(pool, after=False, hoist=False),
        "neurai, pooled spikes": network(pool, after=True),
    }
    steps, names = {}, []
    for name, model in models.items():
        params, _ = model.init(jax.random.key(0), x.shape[:1] + x.shape[2:])
        steps[name], scratch = step(model, with_weights(params, weights), *batch)
        names.append(f"{name} {scratch:.0f} MB")
    worker.serve(steps, f"jax {jax.__version__}; scratch memory: {', '.join(names)}", calls=1)


if __name__ == "__main__":
    main()

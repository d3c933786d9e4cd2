"""Our own steps for pc_peers.py."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import worker

import neurai_core as neurai
from neurai_core.models import mlp


def training_step(model: Any, rule: Any) -> Any:
    @jax.jit
    def step(params: Any, batch: Any) -> Any:
        found, _ = rule.estimate(model, params, (), batch)
        return jax.tree.map(lambda p, g: p - worker.RATE * g, params, found.grads), found.loss

    return step


def main() -> None:
    warnings.simplefilter("ignore")
    sizes, weights, x, y = worker.problem()
    model = mlp(sizes)
    params = tuple({"w": jax.numpy.asarray(w), "b": jax.numpy.zeros(w.shape[1])} for w in weights)
    batch = jax.numpy.asarray(x), jax.numpy.asarray(y)
    rules = {
        "neurai strict": {"mode": "strict"},
        "neurai strict, no light cone": {"mode": "strict", "light_cone": False},
        "neurai fixed_pred": {"mode": "fixed_pred"},
    }

    def calling(settings: dict[str, Any]) -> worker.Step:
        rule = neurai.algorithm("pc", loss="squared_error", eta=worker.ETA, n=worker.SWEEPS, **settings)
        step = training_step(model, rule)
        return lambda: jax.block_until_ready(step(params, batch))

    worker.serve({name: calling(settings) for name, settings in rules.items()}, f"jax {jax.__version__}")


if __name__ == "__main__":
    main()

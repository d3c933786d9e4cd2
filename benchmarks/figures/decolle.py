"""What a linear probe reads off every stage of a spiking network with local readouts, and off an untrained one.

python benchmarks/figures/decolle.py [--seeds 3] [--json FILE]

Kaiser et al. 2020, doi:10.3389/fnins.2020.00424, report that DECOLLE learns deep representations from local information
alone. Here: the digits as spikes by rate, 25 steps, 64-64-64-64-10, Adam at 0.005, batches of 64, 20 epochs; the
features are the rates of a stage.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import jax
import jax.numpy as jnp
import optax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from timing import write

import neurai_core as neurai
from neurai_core.losses import accuracy
from neurai_core.models.spiking import SpikingNetwork, snn
from neurai_core.probe import linear_probe

STAGES, WIDTH, EPOCHS, BATCH = 3, 64, 20, 64


def trained(model: Any, params: Any, data: Any, seed: int) -> Any:
    """Parameters after all epochs."""
    rule, adam = neurai.algorithm("decolle", loss="cross_entropy"), optax.adam(0.005)
    state = rule.init(model, params, key=jax.random.key(seed))
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)

    def step(carried: Any, rows: jax.Array) -> Any:
        params, moments = carried
        found, _ = rule.estimate(model, params, state, (x[rows], y[rows]))
        updates, moments = adam.update(found.grads, moments)
        return (optax.apply_updates(params, updates), moments), None

    steps = len(x) // BATCH
    orders = [jax.random.permutation(jax.random.key(epoch), len(x))[: steps * BATCH] for epoch in range(EPOCHS)]
    rows = jnp.concatenate(orders).reshape(-1, BATCH)
    return jax.jit(partial(jax.lax.scan, step))((params, adam.init(params)), rows)[0][0]


def probed(model: SpikingNetwork, params: Any, data: Any) -> list[float]:
    """Test accuracy of a probe of the rates of every stage below the readout."""
    recorded = SpikingNetwork(model.stages, model.surrogate, record=True)
    train, test = (jax.jit(recorded)(params, jnp.asarray(x)).spikes[:-1] for x in (data.x_train, data.x_test))
    y = jnp.asarray(data.y_train)
    return [
        float(accuracy(linear_probe(a.mean(axis=1), y, 10)(b.mean(axis=1)), jnp.asarray(data.y_test)))
        for a, b in zip(train, test, strict=True)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    data = neurai.dataset("spiking-digits", coding="rate", steps=25)
    model = snn((64, *(WIDTH,) * STAGES, 10), surrogate=neurai.surrogate("superspike"))
    found: dict[str, list[list[float]]] = {"untrained": [], "decolle": []}
    for seed in range(args.seeds):
        params, _ = model.init(jax.random.key(seed), data.input_shape)
        found["untrained"].append(probed(model, params, data))
        found["decolle"].append(probed(model, trained(model, params, data, seed), data))
    print("| features |", " | ".join(f"stage {index + 1}" for index in range(STAGES)), "|")
    print("| --- |", " | ".join("---" for _ in range(STAGES)), "|")
    for name, runs in found.items():
        cells = [
            f"{mean(one):.3f}" + (f" ± {stdev(one):.3f}" if len(one) > 1 else "") for one in zip(*runs, strict=True)
        ]
        print(f"| {name} |", " | ".join(cells), "|")
    write(args.json, found)


if __name__ == "__main__":
    main()

"""pcx's strict training for pc_training.py: a model of its nodes, optimizers of its own, the whole step in one jit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pcx as px
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
import training
from pcx_worker import Network, forward, training_step

ETA, SWEEPS = 0.05, 20


class Classifier(Network):
    """Cross entropy at the last node, any activation before it."""

    def __init__(self, weights: list[Any], activation: str) -> None:
        super().__init__(weights)
        self.vodes[-1] = pxc.Vode(energy_fn=pxc.ce_energy)
        self.vodes[-1].h.frozen = True
        self.activation = px.static(getattr(jax.nn, activation))

    def hidden(self, layer: Any, x: Any) -> Any:
        return self.activation(layer(x))


def main() -> None:
    work = training.asked()
    px.RKG.seed(work.seed)
    model, batches = Classifier(training.weights(work), work.activation), training.Batches(work)
    x, y = (jnp.asarray(part) for part in next(batches.epoch(0)))
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    optim_w = pxu.Optim(lambda: optax.adamw(training.RATE, weight_decay=training.DECAY), pxu.M(pxnn.LayerParam)(model))
    optim_h = pxu.Optim(lambda: optax.sgd(ETA))

    def step(x: Any, y: Any) -> None:
        training_step(SWEEPS, jnp.asarray(x), jnp.asarray(y), model=model, optim_w=optim_w, optim_h=optim_h)

    def layers() -> list[tuple[Any, Any]]:
        return [(layer.nn.weight.get(), layer.nn.bias.get()) for layer in model.layers]

    def outputs(x: Any) -> Any:
        *hidden, (weights, bias) = layers()
        for w, b in hidden:
            x = model.activation(x @ w.T + b)
        return x @ weights.T + bias

    training.answer(work, step, outputs, lambda: jax.block_until_ready(layers()))


if __name__ == "__main__":
    main()

"""pcx's relaxation on a convolutional network, with a node after every convolution, pooling and dense layer."""

from __future__ import annotations

from typing import Any

import images
import jax
import jax.numpy as jnp
import optax
import pcx as px
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
import worker
from pcx_worker import forward, training_step


class Network(pxc.EnergyModule):
    """Layers of pcx on images (C, H, W); the last node holds the target."""

    def __init__(self, pool: str, kinds: list[tuple[Any, ...]], weights: list[Any]) -> None:
        super().__init__()
        given, self.layers = iter(weights), []
        for kind, *sizes in kinds:
            if kind == "pool":
                self.layers.append({"average": pxnn.AvgPool2d, "max": pxnn.MaxPool2d}[pool](2, 2))
            elif kind != "flat":
                self.layers.append(learned(next(given), sizes))
        self.vodes = [pxc.Vode() for _ in self.layers]
        self.vodes[-1].h.frozen = True

    def __call__(self, x: Any, y: Any) -> Any:
        for node, layer in zip(self.vodes, self.layers, strict=True):
            x = layer(x.ravel() if isinstance(layer, pxnn.Linear) else x)
            learns = isinstance(layer, pxnn.Linear | pxnn.Conv2d)
            x = node(jax.nn.relu(x) if learns and layer is not self.layers[-1] else x)
        if y is not None:
            self.vodes[-1].set("h", y)
        return self.vodes[-1].get("u")


def learned(w: Any, sizes: list[int]) -> Any:
    if w.ndim == 2:
        layer, array = pxnn.Linear(*w.shape), w.T
    else:
        layer, array = pxnn.Conv2d(w.shape[2], w.shape[3], sizes[1], padding=sizes[2]), w.transpose(3, 2, 0, 1)
    layer.nn.weight.set(jnp.asarray(array))
    layer.nn.bias.set(jnp.zeros_like(layer.nn.bias.get()))
    return layer


def main() -> None:
    px.RKG.seed(0)
    pool, kinds, weights, x, y = images.problem()
    x, y, model = jnp.asarray(x).transpose(0, 3, 1, 2), jnp.asarray(y), Network(pool, kinds, weights)
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    optim_w = pxu.Optim(lambda: optax.sgd(worker.RATE), pxu.M(pxnn.LayerParam)(model))
    optim_h = pxu.Optim(lambda: optax.sgd(worker.ETA))

    def step() -> None:
        training_step(worker.SWEEPS, x, y, model=model, optim_w=optim_w, optim_h=optim_h)
        jax.block_until_ready(model.layers[0].nn.weight.get())

    worker.serve({"pcx pc strict": step}, f"jax {jax.__version__}", calls=1)


if __name__ == "__main__":
    main()

"""pcx's relaxation for pc_peers.py: a model of its nodes, an SGD on their values, the whole step inside one jit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pcx as px
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
import worker


class Network(pxc.EnergyModule):
    """Linear layers with a node after each; the last node holds the target."""

    def __init__(self, weights: list[Any]) -> None:
        super().__init__()
        self.layers = [pxnn.Linear(*w.shape) for w in weights]
        for layer, w in zip(self.layers, weights, strict=True):
            layer.nn.weight.set(jnp.asarray(w.T))
            layer.nn.bias.set(jnp.zeros(w.shape[1]))
        self.vodes = [pxc.Vode() for _ in weights]
        self.vodes[-1].h.frozen = True

    def hidden(self, layer: Any, x: Any) -> Any:
        return jax.nn.relu(layer(x))

    def __call__(self, x: Any, y: Any) -> Any:
        for node, layer in zip(self.vodes[:-1], self.layers[:-1], strict=True):
            x = node(self.hidden(layer, x))
        self.vodes[-1](self.layers[-1](x))
        if y is not None:
            self.vodes[-1].set("h", y)
        return self.vodes[-1].get("u")


NODES = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))
FREE = pxu.M_hasnot(pxc.VodeParam, frozen=True)


@pxf.vmap(NODES, in_axes=(0, 0), out_axes=0)
def forward(x: Any, y: Any, *, model: Network) -> Any:
    return model(x, y)


@pxf.vmap(NODES, in_axes=(0,), out_axes=(None, 0), axis_name="batch")
def energy(x: Any, *, model: Network) -> Any:
    outputs = model(x, None)
    return jax.lax.psum(model.energy(), "batch"), outputs


@pxf.jit(static_argnums=0)
def training_step(sweeps: int, x: Any, y: Any, *, model: Network, optim_w: Any, optim_h: Any) -> None:
    model.train()
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    optim_h.init(FREE(model))
    for _ in range(sweeps):
        with pxu.step(model, clear_params=pxc.VodeParam.Cache):
            _, slope = pxf.value_and_grad(FREE.to([False, True]), has_aux=True)(energy)(x, model=model)
        optim_h.step(model, slope["model"])
    optim_h.clear()
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        learn = pxf.value_and_grad(pxu.M(pxnn.LayerParam).to([False, True]), has_aux=True)
        _, slope = learn(energy)(x, model=model)
    optim_w.step(model, slope["model"], scale_by=1.0 / x.shape[0])


def main() -> None:
    px.RKG.seed(0)
    _, weights, x, y = worker.problem()
    x, y, model = jnp.asarray(x), jnp.asarray(y), Network(weights)
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    optim_w = pxu.Optim(lambda: optax.sgd(worker.RATE), pxu.M(pxnn.LayerParam)(model))
    optim_h = pxu.Optim(lambda: optax.sgd(worker.ETA))

    def step() -> None:
        training_step(worker.SWEEPS, x, y, model=model, optim_w=optim_w, optim_h=optim_h)
        jax.block_until_ready(model.layers[0].nn.weight.get())

    worker.serve({"pcx": step}, f"jax {jax.__version__}")


if __name__ == "__main__":
    main()

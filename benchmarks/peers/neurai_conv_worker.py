"""Steps of this library on a convolutional network."""

from __future__ import annotations

from typing import Any

import images
import jax
import jax.numpy as jnp
import worker

import neurai_core as neurai
from neurai_core.layered import ConvForms, Layer, Layered, avg_pool, conv, dense, flatten, linear_layer, max_pool

XLA = ConvForms("xla", "xla", "xla")


def model(pool: str, layers: list[tuple[Any, ...]], activation: str, forms: ConvForms) -> Layered:
    """The network; the last layer is linear."""
    made: list[Layer] = []
    for kind, *sizes in layers:
        if kind == "conv":
            out, kernel, pad = sizes
            made.append(conv(out, kernel, padding=((pad, pad), (pad, pad)), activation=activation, forms=forms))
        elif kind == "dense":
            made.append(dense(sizes[0], activation if sizes[0] != 10 else "identity"))
        else:
            made.append(flatten() if kind == "flat" else {"average": avg_pool, "max": max_pool}[pool](2))
    return Layered(tuple(made))


def step(rule: Any, net: Layered, params: Any, batch: Any) -> Any:
    """One update, compiled, that waits for its result."""
    state = rule.init(net, params)

    @jax.jit
    def update(params: Any, batch: Any) -> Any:
        grads = rule.estimate(net, params, state, batch)[0].grads
        return jax.tree.map(lambda p, g: p - worker.RATE * g, params, grads)

    return lambda: jax.block_until_ready(update(params, batch))


def main() -> None:
    pool, layers, weights, x, y = images.problem()
    batch, given = (jnp.asarray(x), jnp.asarray(y)), iter(weights)
    params = tuple(
        {"w": jnp.asarray(w), "b": jnp.zeros(w.shape[-1])} if kind in ("conv", "dense") else ()
        for kind, *_ in layers
        for w in [next(given) if kind in ("conv", "dense") else None]
    )
    relu, plain = model(pool, layers, "relu", ConvForms()), model(pool, layers, "relu", XLA)
    pc = {"loss": "squared_error", "eta": worker.ETA, "n": worker.SWEEPS}
    rules = {
        "bp": (neurai.algorithm("bp", loss="squared_error"), relu),
        "bp, XLA's convolutions": (neurai.algorithm("bp", loss="squared_error"), plain),
        "pc strict": (neurai.algorithm("pc", **pc), relu),
        "pc strict, XLA's convolutions": (neurai.algorithm("pc", **pc), plain),
        "pc strict, fuse": (neurai.algorithm("pc", **pc, fuse=True), relu),
    }
    if pool == "average":
        ep = {"energy": "hopfield", "mode": "two_phase_matched", "dt": images.DT, "beta": images.BETA}
        rules["ep hopfield"] = (
            neurai.algorithm("ep", loss="squared_error", **ep),
            model(pool, layers, "sigmoid", ConvForms()),
        )
        behind = model(pool, layers, "sigmoid", ConvForms())
        rules["ep hopfield, fuse"] = neurai.algorithm("ep", loss="squared_error", **ep, fuse=True), moved(behind)
    worker.serve(
        {f"neurai {name}": step(rule, net, params, batch) for name, (rule, net) in rules.items()},
        f"jax {jax.__version__}",
        calls=1,
    )


def moved(net: Layered) -> Layered:
    """The network with its activations behind the pooling, in the same number of layers."""
    made: list[Layer] = []
    for layer, after in zip(net.layers, (*net.layers[1:], net.layers[-1]), strict=True):
        pools = after.name.startswith("avg_pool")
        activation = "sigmoid" if layer.name.startswith("avg_pool") else "identity" if pools else layer.activation
        assert layer.linear is not None and activation is not None
        made.append(linear_layer(layer.init, layer.linear, activation, layer.name))
    return Layered(tuple(made))


if __name__ == "__main__":
    main()

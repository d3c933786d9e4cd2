"""Every product of a convolutional network by itself, in the forms of this library and in XLA's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import images
import jax
import jax.numpy as jnp
import worker
from neurai_conv_worker import XLA, model

from neurai_core.layered import ConvForms, Layer


def products(layer: Layer, own: Any, x: jax.Array) -> dict[str, Callable[[], Any]]:
    """The layer's linear half, or all of it where it has none, and its two derivatives."""
    f = layer.linear or (lambda own, x: layer.apply(own, (), x)[0])
    g = jax.jit(f)(own, x)
    by_inputs = jax.jit(lambda own, x, g: jax.vjp(lambda x: f(own, x), x)[1](g))
    by_weights = jax.jit(lambda own, x, g: jax.vjp(lambda own: f(own, x), own)[1](g))
    forward = jax.jit(f)
    made: dict[str, Callable[[], Any]] = {
        "forward": lambda: jax.block_until_ready(forward(own, x)),
        "inputs": lambda: jax.block_until_ready(by_inputs(own, x, g)),
    }
    if own:
        made["weights"] = lambda: jax.block_until_ready(by_weights(own, x, g))
    return made


def main() -> None:
    pool, layers, weights, x, _ = images.problem()
    steps = {}
    for name, forms in {"auto": ConvForms(), "xla": XLA}.items():
        net, given, below = model(pool, layers, "relu", forms), iter(weights), jnp.asarray(x)
        for index, ((kind, *_), layer) in enumerate(zip(layers, net.layers, strict=True)):
            own = {"w": jnp.asarray(next(given))} if kind in ("conv", "dense") else ()
            if kind != "flat":
                for what, call in products(layer, own, below).items():
                    steps[f"{name} {index} {what}"] = call
            below = layer.apply(own, (), below)[0]
    worker.serve(steps, f"jax {jax.__version__}")


if __name__ == "__main__":
    main()

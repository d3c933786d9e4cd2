"""SymBa, Lee and Song 2023, for dense layers h_l = f(h_{l-1} W_l + b_l), one example per row.

Loss = log(1 + exp(-alpha Delta)) with Delta = G_positive - G_negative, layer by layer. A class is shown by its
intrinsic pattern, random entries that here are added to the inputs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def symba(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The gradient of the loss of every layer, its inputs held fixed."""
    (x, y), patterns = batch, state.own
    false = (y + jax.random.randint(key, y.shape, 1, len(patterns))) % len(patterns)
    positive, negative = (x + config.strength * patterns[one] for one in (y, false))
    grads = []
    for layer, own in zip(model.layers, params, strict=True):
        unit = lambda h: h / (jnp.sqrt(jnp.mean(h**2, axis=1, keepdims=True)) + 1e-6)
        f = lambda own, h, layer=layer, unit=unit: layer.activation(unit(h) @ own["w"] + own["b"])
        goodness = lambda own, h, f=f: jnp.mean(f(own, h) ** 2, axis=1)

        def loss_of(own: Any, goodness: Any = goodness, pair: Any = (positive, negative)) -> Any:
            Delta = goodness(own, pair[0]) - goodness(own, pair[1])
            return jnp.mean(jnp.log(1 + jnp.exp(-config.alpha * Delta)))

        grads.append(jax.grad(loss_of)(own))
        positive, negative = f(own, positive), f(own, negative)
    return tuple(grads)

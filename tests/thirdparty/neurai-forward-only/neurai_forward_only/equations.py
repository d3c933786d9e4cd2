"""Forward-Forward as its paper writes it, for dense layers h_l = f(h_{l-1} W_l + b_l), one example per row."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def forward_forward(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Hinton 2022, equation 1, layer by layer, with the label one-hot in the first entries (section 3.3)."""
    x, y = batch
    marks, theta, grads = state.own, config.threshold, []
    false = (y + jax.random.randint(key, y.shape, 1, len(marks))) % len(marks)
    positive, negative = (jnp.concatenate([marks[label], x[:, len(marks) :]], axis=1) for label in (y, false))

    for layer, own in zip(model.layers, params, strict=True):
        unit = lambda h: h / (jnp.sqrt(jnp.mean(h**2, axis=1, keepdims=True)) + 1e-6)
        f = lambda own, h, layer=layer, unit=unit: layer.activation(unit(h) @ own["w"] + own["b"])
        goodness = lambda own, h, f=f: jnp.mean(f(own, h) ** 2, axis=1)

        def loss_of(own: Any, goodness: Any = goodness, pair: Any = (positive, negative)) -> Any:
            p_positive, p_negative = (jax.nn.sigmoid(goodness(own, h) - theta) for h in pair)
            return -jnp.mean(jnp.log(p_positive) + jnp.log(1 - p_negative))

        grads.append(jax.grad(loss_of)(own))
        positive, negative = f(own, positive), f(own, negative)
    return tuple(grads)

"""The three rules as their papers write them, for dense layers h_l = f(h_{l-1} W_l + b_l), one example per row."""

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


def pepita(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Dellaferrera & Kreiman 2022, algorithm 1: the mean over the batch; ``state.own`` is F, transposed."""
    x, y = batch
    B = len(x)

    def forward(x: Any) -> Any:
        h = [x]
        for layer, own in zip(model.layers, params, strict=True):
            h.append(layer.activation(h[-1] @ own["w"] + own["b"]))
        return h

    h = forward(x)
    e = jax.grad(loss)(h[-1], y) * B
    err = forward(x + e @ state.own)
    deltas = [h_l - err_l for h_l, err_l in zip(h[1:-1], err[1:-1], strict=True)] + [e]
    return tuple(
        {"w": below.T @ delta / B, "b": jnp.mean(delta, axis=0)} for below, delta in zip(err[:-1], deltas, strict=True)
    )


def forward_gradient(
    config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None
) -> Any:
    """Baydin et al. 2022, definition 1, (grad L . v) v, as a mean over directions v."""
    x, y = batch
    leaves, structure = jax.tree.flatten(params)
    gradient = jax.tree.leaves(jax.grad(lambda params: loss(model(params, x), y))(params))
    total = [jnp.zeros_like(leaf) for leaf in leaves]
    for one in jax.random.split(jax.random.fold_in(key, 1), config.samples):
        keys = jax.random.split(one, len(leaves))
        v = [jax.random.normal(k, leaf.shape, jnp.float32) for k, leaf in zip(keys, leaves, strict=True)]
        slope = sum(jnp.vdot(g, v_i) for g, v_i in zip(gradient, v, strict=True))
        total = [t + slope * v_i / config.samples for t, v_i in zip(total, v, strict=True)]
    return jax.tree.unflatten(structure, total)

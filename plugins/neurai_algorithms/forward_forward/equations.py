"""Forward-Forward on dense layers, as in Hinton 2022, arXiv:2212.13345, sections 2 and 3.3.

    p(positive) = sigmoid(sum_j y_j^2 - theta)                      (1), here with the mean of the squares

y_j is the activity of hidden unit j, before its layer's activities are normalized for the next one. Positive examples
are inputs with their label, negative ones the same inputs with another. Section 3.3 puts a label into the first 10
pixels, which are black in MNIST; here it has input units of its own, with weights V.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The gradients of -log p(positive) and -log (1 - p(positive)), of each layer on its own."""
    (x, label), V = batch, params["labels"]
    false = (label + jax.random.randint(key, label.shape, 1, len(V))) % len(V)
    shown = config.strength * jnp.eye(len(V))
    positive, negative = (jnp.concatenate([x, shown[one]], axis=1) for one in (label, false))

    grads = []
    for layer, own in zip(model.plain.layers, weights(params), strict=True):
        f = lambda own, y, layer=layer: layer.activation(y @ own["w"] + own["b"])

        def loss_of(own: Any, f: Any = f, positive: Any = positive, negative: Any = negative) -> Any:
            return -jnp.mean(jnp.log(p(config, f(own, positive))) + jnp.log(1 - p(config, f(own, negative))))

        grads.append(jax.grad(loss_of)(own))
        positive, negative = normalized(f(own, positive)), normalized(f(own, negative))
    return in_parts(grads, len(V))


def p(config, y):
    """(1)."""
    return jax.nn.sigmoid(jnp.mean(y**2, axis=1) - config.threshold)


def normalized(y):
    """The length is taken out, by which the next layer could tell what this one has found."""
    return y / (jnp.sqrt(jnp.mean(y**2, axis=1, keepdims=True)) + 1e-6)


def weights(params):
    """Those of each layer, with V as further rows of the first."""
    first, *above = params["layers"]
    return [{**first, "w": jnp.concatenate([first["w"], params["labels"]])}, *above]


def in_parts(grads, count):
    """The rows of the first layer's gradient as the parameters have them."""
    w = grads[0]["w"]
    return {"layers": ({**grads[0], "w": w[:-count]}, *grads[1:]), "labels": w[-count:]}

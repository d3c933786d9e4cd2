"""Slow and simple predictive coding to compare with: plain loops, automatic differentiation, nothing clever."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.jit, static_argnums=0)
def activities(model, params, x):
    """vhat_1..vhat_L."""
    out = []
    for layer, own in zip(model.layers, params, strict=True):
        x = layer.apply(own, (), x, train=True)[0]
        out.append(x)
    return out


@partial(jax.jit, static_argnums=(0, 4))
def energy(model, params, x, y, loss, beliefs):
    """F at beliefs v_1..v_{L-1}."""
    below = [x, *beliefs]
    predicted = [f.apply(p, (), v, train=True)[0] for f, p, v in zip(model.layers, params, below, strict=True)]
    hidden = sum(jnp.sum((f - v) ** 2) / 2 for f, v in zip(predicted[:-1], beliefs, strict=True))
    return loss(predicted[-1], y) + hidden


@partial(jax.jit, static_argnums=(0, 4, 6))
def strict(model, params, x, y, loss, steps, fresh=False):
    """Descent on F by automatic differentiation, one sweep per entry of ``steps`` (its eta).

    Returns:
        Gradients with inputs after the last move and errors before it (after it if ``fresh``).
    """

    def sweep(moved, eta):
        beliefs = moved[-1]
        slope = jax.grad(lambda v: energy(model, params, x, y, loss, v))(beliefs)
        return (beliefs, [v - eta * g for v, g in zip(beliefs, slope, strict=True)]), None

    start = activities(model, params, x)[:-1]
    (before, beliefs), _ = jax.lax.scan(sweep, (start, start), jnp.asarray(steps))
    seen = beliefs if fresh else before
    below = [x, *seen]
    predicted = [f.apply(p, (), v, train=True)[0] for f, p, v in zip(model.layers, params, below, strict=True)]
    errors = [f - v for f, v in zip(predicted[:-1], seen, strict=True)]
    errors.append(jax.grad(lambda o: loss(o, y))(predicted[-1]))
    return learn(model, params, [x, *beliefs], errors)


def learn(model, params, inputs, errors):
    """Each layer's gradient from its own input and error."""
    grads = []
    for layer, own, v, e in zip(model.layers, params, inputs, errors, strict=True):
        pull = jax.vjp(lambda p, f=layer.apply, v=v: f(p, (), v, train=True)[0], own)[1]
        grads.append(pull(e)[0])
    return tuple(grads)


@partial(jax.jit, static_argnums=(0, 4))
def fixed_prediction(model, params, x, y, loss, eta, n):
    """The recursion itself: n sweeps of eps <- (1 - eta) eps + eta J^T eps, the errors of the last sweep."""
    outputs = activities(model, params, x)
    pulls = [
        jax.vjp(lambda v, f=layer.apply, p=own: f(p, (), v, train=True)[0], below)[1]
        for layer, own, below in zip(model.layers[1:], params[1:], outputs[:-1], strict=True)
    ]
    errors = [jnp.zeros_like(v) for v in outputs[:-1]]
    errors.append(jax.grad(lambda o: loss(o, y))(outputs[-1]))

    def sweep(_, errors):
        back = [pull(e)[0] for pull, e in zip(pulls, errors[1:], strict=True)]
        return [e + eta * (b - e) for e, b in zip(errors[:-1], back, strict=True)] + errors[-1:]

    errors = jax.lax.fori_loop(0, n - 1, sweep, errors)
    return learn(model, params, [x, *outputs[:-1]], errors)

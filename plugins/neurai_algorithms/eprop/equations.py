r"""E-prop, as in Bellec et al. 2020, doi:10.1038/s41467-020-17236-y; equation numbers are theirs.

    dE/dW_ji ~ sum_t L_j^t ebar_ji^t                                 (1) with a learning signal for dE/dz_j^t
    L_j^t = sum_k B_jk dE/dy_k^t                                     (4), there for the squared error
    e_ji^t = (dz_j^t/dh_j^t) eps_ji^t                                (13), eligibility trace
    eps_ji^t = (dh_j^t/dh_j^{t-1}) eps_ji^{t-1} + dh_j^t/dW_ji       (14), eligibility vector

h_j is the state of neuron j, z_j its spike, y the readout, which filters the spikes, and ebar the trace with the same
filter. The derivatives are those of one neuron, with its incoming spikes held fixed. So one jvp of all neurons, each
along its weight from the same i, gives a row of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dE/dW of the hidden neurons and of the readout; all synapses have a bias."""
    (x, target), (hidden, readout) = batch, params
    x = model.sequence(params, x, key=key)
    y = replace(model, encode=None, readout="all")(params, x)  # (examples, T, K)
    dE_dy = jax.grad(lambda y: loss(model.read(y), target))(y)
    B = state.own if config.feedback == "random" else readout["input"]["w"]
    grads = jax.vmap(lambda x, dE_dy: of_example(model, hidden, B, x, dE_dy))(x, dE_dy)
    return tuple(in_parts(own, g.sum(axis=(0, 1))) for own, g in zip(params, grads, strict=True))


def of_example(model, hidden, B, x, dE_dy):
    """L_j^t ebar_ji^t and dE/dW_kj^out of every t, for x (T, inputs) and dE/dy (T, K)."""
    cell, leak = model.stages[0].cell, model.stages[1].cell
    recurrent = [hidden["recurrent"]] if "recurrent" in hidden else []
    W = jnp.concatenate([hidden["input"]["w"], hidden["input"]["b"][None], *recurrent])  # W_ij here, as x W

    def neuron(h, current):
        """z_j^t and the state h_j^t that is left, after the reset."""
        charged = cell.charge(hidden["cell"], h, current)
        z = cell.output(hidden["cell"], model.surrogate, charged)
        return z, cell.settle(hidden["cell"], charged, z)

    def step(before, at):
        (h, z, eps, ebar, zbar), (x, dE_dy) = before, at
        into = jnp.concatenate([x, jnp.ones(1), z])[: len(W)]  # dh_j/dW_ji reaches neuron j as this current

        def along(eps_i, z_i):
            """(13) and (14) for the weights of all neurons from the same i."""
            return jax.jvp(neuron, (h, into @ W), (eps_i, jnp.full(W.shape[1], z_i)))[1]

        e, eps = jax.vmap(along)(eps, into)
        z, h = neuron(h, into @ W)
        shown = jnp.append(z, 1.0)
        ebar, zbar = leak.charge({}, ebar, e), leak.charge({}, zbar, shown)
        learned = (B @ dE_dy) * ebar["v"], zbar["v"][:, None] * dE_dy  # (4) and (1)
        return (h, z, eps, leak.settle({}, ebar, e), leak.settle({}, zbar, shown)), learned

    h = cell.rest(W.shape[1:], x.dtype)
    eps = jax.tree.map(lambda s: jnp.zeros((len(W), *s.shape), s.dtype), h)
    ebar, zbar = leak.rest(W.shape, x.dtype), leak.rest((W.shape[1] + 1,), x.dtype)
    return jax.lax.scan(step, (h, jnp.zeros(W.shape[1], x.dtype), eps, ebar, zbar), (x, dE_dy))[1]


def in_parts(own, g):
    """The rows of a gradient as the parameters have them: the input's weights, the bias, the recurrent weights."""
    n = len(own["input"]["w"])
    parts = {"input": {"w": g[:n], "b": g[n]}, "cell": own["cell"]}
    return parts | {"recurrent": g[n + 1 :]} if "recurrent" in own else parts

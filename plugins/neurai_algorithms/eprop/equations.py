r"""E-prop, as in Bellec et al. 2020, doi:10.1038/s41467-020-17236-y; equation numbers are theirs.

    dE/dW_ji ~ sum_t L_j^t ebar_ji^t                                 (1) with a learning signal for dE/dz_j^t
    L_j^t = sum_k B_jk dE/dy_k^t                                     (4), there for the squared error
    e_ji^t = (dz_j^t/dh_j^t) eps_ji^t                                (13), eligibility trace
    eps_ji^t = (dh_j^t/dh_j^{t-1}) eps_ji^{t-1} + dh_j^t/dW_ji       (14), eligibility vector

h_j is the state of neuron j, z_j its spike, y the readout, which filters the spikes, and ebar the trace with the same
filter. The derivatives are those of one neuron, with its incoming spikes held fixed. So one jvp of all neurons, each
along its weight from the same i, gives a row of them.

The paper has one stage of neurons. In a stage below others, B_jk is what z_j does to the readout's input k in the same
step, through the stages between: it depends on t, so every output k has its own filtered trace, of B_jk^t e_ji^t.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dE/dW of the hidden neurons and of the readout; all synapses have a bias."""
    x, target = model.sequence(params, batch[0], key=key), batch[1]
    y = replace(model, encode=None, readout="all")(params, x)  # (examples, T, K)
    dE_dy = jax.grad(lambda y: loss(model.read(y), target))(y)
    B = state.own if config.feedback == "random" else None
    grads = jax.vmap(lambda x, dE_dy: of_example(model, params, B, x, dE_dy))(x, dE_dy)
    return tuple(jax.vjp(with_bias, own)[1](g.sum(axis=(0, 1)))[0] for own, g in zip(params, grads, strict=True))


def of_example(model, params, drawn, x, dE_dy):
    """sum_k dE/dy_k^t ebar_kji^t of every stage, and dE/dW_kj^out, at every t, for x (T, inputs) and dE/dy (T, K)."""
    cells, leak = [stage.cell for stage in model.stages[:-1]], model.stages[-1].cell
    W = [with_bias(own) for own in params[:-1]]  # W_ij here, as x W

    def step(before, at):
        (neurons, ebar, zbar), (z, dE_dy) = before, at
        now, e, B = [], [], [params[-1]["input"]["w"]]
        for cell, w, (h, own_z, eps) in zip(cells, W, neurons, strict=True):
            into = jnp.concatenate([z, jnp.ones(1), own_z])[: len(w)]  # dh_j/dW_ji reaches j as this current
            (z, h), e_l, eps, dz = traces(cell, model.surrogate, w, into, h, eps)
            now, e = [*now, (h, z, eps)], [*e, (e_l, dz)]
        for w, (_, dz), (_, below, _) in zip(W[:0:-1], e[:0:-1], now[-2::-1], strict=True):
            B.insert(0, w[: len(below)] @ (dz[:, None] * B[0]))
        paths = [B_l.T[:, None] * e_l for B_l, (e_l, _) in zip(drawn or B, e, strict=True)]  # (K, i, j)
        inputs = *paths, jnp.append(z, 1.0)
        filtered = [leak.charge({}, *pair) for pair in zip((*ebar, zbar), inputs, strict=True)]
        *ebar, zbar = (leak.settle({}, one, None) for one in filtered)
        *learned, out = (one["v"] for one in filtered)
        return (now, ebar, zbar), [*(jnp.tensordot(dE_dy, one, 1) for one in learned), out[:, None] * dE_dy]  # (1)

    h = [cell.rest(w.shape[1:], x.dtype) for cell, w in zip(cells, W, strict=True)]
    eps = [jax.vmap(lambda _, h_l=h_l: jax.tree.map(jnp.zeros_like, h_l))(w[:, 0]) for w, h_l in zip(W, h, strict=True)]
    ebar = [leak.rest((dE_dy.shape[1], *w.shape), x.dtype) for w in W]
    neurons = [(h_l, jnp.zeros_like(w[0]), eps_l) for h_l, w, eps_l in zip(h, W, eps, strict=True)]
    return jax.lax.scan(step, (neurons, ebar, leak.rest((len(W[-1][0]) + 1,), x.dtype)), (x, dE_dy))[1]


def traces(cell, surrogate, w, into, h, eps):
    """(z_j^t, h_j^t), e_ji^t by (13), eps_ji^t by (14), and dz_j^t by its current, from those of t-1."""

    def neuron(h, current):
        charged = cell.charge({}, h, current)
        z = cell.output({}, surrogate, charged)
        return z, cell.settle({}, charged, z)

    def along(eps_i, z_i):
        """Of the weights of all neurons from the same i."""
        return jax.jvp(neuron, (h, into @ w), (eps_i, jnp.full(w.shape[1], z_i)))[1]

    e, after = jax.vmap(along)(eps, into)
    return neuron(h, into @ w), e, after, along(jax.tree.map(jnp.zeros_like, h), 1.0)[0]


def with_bias(own):
    """The rows of W: of the input, of the bias, and of the stage's own spikes; linear, so its vjp takes them apart."""
    w, b = own["input"]["w"], own["input"]["b"]
    return jnp.concatenate([w, b[None], own.get("recurrent", w[:0])])

r"""Online training through time, OTTT_A of Xiao et al. 2022, arXiv:2210.04195, in their letters.

    u^l[t] = lambda (u^l[t-1] - V s^l[t-1]) + W^l s^{l-1}[t] + b^l      membranes, with soft resets
    a^l[t] = sum_{tau <= t} lambda^{t-tau} s^l[tau]                     tracked presynaptic activities, "a hat"
    g^l[t] = dL[t]/du^l[t]                                              through the layers of step t alone
    dL/dW^l = sum_t a^{l-1}[t]^T g^l[t]                                 their three-factor update, for rows s W

L[t] is the loss of the outputs of step t over the number of steps T. Here lambda^k is the membrane's response kappa[k]
to a spike k steps ago, also with a gain or a synaptic current, and a bias has a presynaptic activity of 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dL/dW^l of every layer; the last one does not fire, and its membrane is the output."""
    x, y = model.sequence(params, batch[0], key=key), batch[1]
    u = replace(model, encode=None).membranes(params, x)  # (T, B, N) each
    layers = list(zip(model.stages, params, u, strict=True))
    s = [jnp.moveaxis(x, 1, 0), *(stage.output(own, model.surrogate, at) for stage, own, at in layers)]
    dL = jax.grad(lambda o: jnp.mean(jax.vmap(lambda one: loss(one, y))(o)))(s[-1])  # dL[t]/ds^N[t] of all t
    grads: list[Any] = []
    for l in reversed(range(len(layers))):
        stage, own, at = layers[l]
        g = dL * slope(stage, own, model.surrogate, at)
        kappa = responses(stage.cell, len(g))
        w, b = jnp.einsum("tk,kbi,tbj->ij", kappa, s[l], g), jnp.einsum("tk,tbj->j", kappa, g)
        made = {"input": {"w": w, "b": b}, "cell": own["cell"]}
        if "recurrent" in own:
            before = jnp.concatenate([jnp.zeros_like(s[l + 1][:1]), s[l + 1][:-1]])
            made["recurrent"] = jnp.einsum("tk,kbi,tbj->ij", kappa, before, g)
        grads.insert(0, made)
        dL = kappa[0, 0] * g @ own["input"]["w"].T
    return tuple(grads)


def slope(stage: Any, own: Any, surrogate: Any, at: Any) -> Any:
    """ds/du of the surrogate, 1 for the layer that does not fire."""
    return jax.grad(lambda v: jnp.sum(stage.output(own, surrogate, at | {"v": v})))(at["v"])


def responses(cell: Any, T: int) -> Any:
    """kappa[t - tau] of all t (rows) and tau: the membrane at t after an input of 1 at tau."""
    synapse, gain = cell.synapse or 0.0, 1 - cell.decay if cell.input_gain == "complement" else cell.input_gain
    k = jnp.arange(T)
    current = jnp.where(k[:, None] >= k, jnp.asarray(synapse, float) ** jnp.maximum(k[:, None] - k, 0), 0.0)
    membrane = jnp.where(k[:, None] >= k, jnp.asarray(cell.decay, float) ** jnp.maximum(k[:, None] - k, 0), 0.0)
    return gain * (membrane @ current)

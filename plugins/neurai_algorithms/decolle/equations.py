r"""Deep continuous local learning (DECOLLE), Kaiser et al. 2020, doi:10.3389/fnins.2020.00424, in their letters.

    U^l[t] = sum_j W_ij^l P_j^l[t] - rho R_i^l[t] + b_i^l      membranes; P: spikes below through synapse and membrane,
                                                               R: refractory, what is left of its own spikes (4)
    S^l[t] = Theta(U^l[t])                                     spikes
    Y^l[t] = G^l S^l[t]                                        local readouts; G is random and fixed
    L = sum_l L^l(Y^l[t])                                      one loss for every layer and step
    Delta W_ij^l ~ error_i^l sigma'(U_i^l) P_j^l               error_i^l = sum_k G_ki dL^l/dY_k^l

Derivatives go neither to layers below nor to steps before: R and the spikes below are held fixed. The network's own
readout is one more layer: it does not fire, and its membrane is its Y. Losses are means over the steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """dL^l/dW^l of every layer."""
    x, y = model.sequence(params, batch[0], key=key), batch[1]
    U = replace(model, encode=None).membranes(params, x)  # (T, B, N) each
    G = [*state.own, None]
    below = jnp.moveaxis(x, 1, 0)
    grads = []
    for stage, own, G_l, U_l in zip(model.stages, params, G, U, strict=True):

        def L(v, stage=stage, own=own, G_l=G_l, U_l=U_l):
            S = stage.output(own, model.surrogate, U_l | {"v": v})
            return jnp.mean(jax.vmap(lambda Y: loss(Y, y))(S if G_l is None else S @ G_l))

        error = jax.grad(L)(U_l["v"])  # error_i sigma'(U_i), or the error of the readout
        P = filtered(stage.cell, below)
        made: Any = {"input": {"w": jnp.einsum("tbj,tbi->ji", P, error), "b": error_of_bias(stage.cell, error)}}
        S = stage.output(own, model.surrogate, U_l)
        if "recurrent" in own:
            before = jnp.concatenate([jnp.zeros_like(S[:1]), S[:-1]])
            made["recurrent"] = jnp.einsum("tbj,tbi->ji", filtered(stage.cell, before), error)
        grads.append(made | {"cell": own["cell"]})
        below = S
    return tuple(grads)


def filtered(cell, S):
    """P[t] of spikes S (T, ...): through the synaptic current, if there is one, and the membrane."""
    gain = 1 - cell.decay if cell.input_gain == "complement" else cell.input_gain

    def step(before, S):
        Q = (cell.synapse or 0.0) * before[0] + S
        P = cell.decay * before[1] + gain * Q
        return (Q, P), P

    return jax.lax.scan(step, (jnp.zeros_like(S[0]), jnp.zeros_like(S[0])), S)[1]


def error_of_bias(cell, error):
    """The same sum for b, whose presynaptic spike is always 1."""
    return jnp.einsum("t,tbi->i", filtered(cell, jnp.ones(len(error), error.dtype)), error)

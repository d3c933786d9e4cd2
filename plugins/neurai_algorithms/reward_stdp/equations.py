r"""Reward-modulated STDP, a three-factor rule, as Fremaux and Gerstner 2016 review it, doi:10.3389/fncir.2015.00085.

    e_ij[t] = exp(-1 / tau_e) e_ij[t-1] + STDP_ij[t]        eligibility trace of every synapse and example
    Delta w_ij = M e_ij[T]                                  third factor, at the end: M = R - b

STDP_ij[t] is what pairs that a spike of step t completes would change without bounds: a_+ exp(-(t - t_i) / tau_+) for
every earlier spike of the input with one of the neuron at t, or at once, and -a_- exp(-(t - t_j) / tau_-) for every
earlier spike of the neuron with one of the input at t. The reward R of an example is minus its loss, and the baseline b
is the mean over the batch. A readout that does not fire learns by the gradient of its loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """-Delta w of every stage that fires, the mean over examples, and the gradient of the readout."""
    x, y = (jnp.repeat(jnp.asarray(part), config.trials, axis=0) for part in batch)
    x = model.sequence(params, x, key=key)
    whole = replace(model, encode=None)
    outputs, spikes = replace(whole, record=True)(params, x)
    R = -jnp.stack([loss(outputs[b : b + 1], y[b : b + 1]) for b in range(len(x))])
    b = jnp.repeat(R.reshape(-1, config.trials).mean(axis=1), config.trials) if config.trials > 1 else jnp.mean(R)
    M = R - b
    grads = []
    for own, below, s in zip(params[:-1], (x, *spikes), spikes, strict=False):
        made = jax.tree.map(jnp.zeros_like, own)
        made["input"]["w"] = -jnp.tensordot(M, eligibility(config, below, s), 1) / len(x)
        if "recurrent" in own:
            arriving = jnp.concatenate([jnp.zeros_like(s[:, :1]), s[:, :-1]], axis=1)
            made["recurrent"] = -jnp.tensordot(M, eligibility(config, arriving, s), 1) / len(x)
        grads.append(made)
    return (*grads, jax.grad(lambda readout: loss(whole((*params[:-1], readout), x), y))(params[-1]))


def eligibility(config, pre, post):
    """e_ij[T] (examples, I, J) of spikes pre (examples, T, I) and post (examples, T, J), from all pairs of steps."""
    t = jnp.arange(pre.shape[1], dtype=pre.dtype)
    i, j = t[:, None], t[None, :]  # steps of the arriving spike and of the fired one
    grows = jnp.where(j >= i, config.a_plus * jnp.exp(-jnp.abs(j - i) / config.tau_plus), 0)
    shrinks = jnp.where(j < i, config.a_minus * jnp.exp(-jnp.abs(j - i) / config.tau_minus), 0)
    left = jnp.exp(-(t[-1] - jnp.maximum(i, j)) / config.tau_trace)
    return jnp.einsum("bki,kt,kt,btj->bij", pre, left, grows - shrinks, post)

r"""Pair-based STDP with an exponential window, in the letters of Morrison et al. 2008, doi:10.1007/s00422-008-0233-1.

    Delta w_ij = sum over all pairs of a spike that arrives from i and a spike of j of
        F_+(w_ij) exp(-Delta t / tau_+)     Delta t = t_j - t_i >= 0: j fires with it or after it
       -F_-(w_ij) exp( Delta t / tau_-)     Delta t < 0: j has fired before

F_+ = A_+ and F_- = A_- without bounds (Song et al. 2000); with soft bounds, F_+ = A_+ (w_max - w) and F_- = A_- w
(van Rossum et al. 2000), with 3.2 divided by the number of inputs if w_max is not given. A spike of the stage below
arrives in the step in which it is fired, one of the own stage in the next one. Biases and readouts that do not fire
stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """-Delta w of every synapse, the mean over examples."""
    x = model.sequence(params, batch[0], key=key)
    fired = replace(model, encode=None, record=True)(params, x).spikes  # (examples, T, N) each
    grads = []
    for stage, own, below, s in zip(model.stages, params, (x, *fired), fired, strict=False):
        made = jax.tree.map(jnp.zeros_like, own)
        if stage.cell.spikes:
            made["input"]["w"] = -change(config, own["input"]["w"], below, s)
            if "recurrent" in own:
                arriving = jnp.concatenate([jnp.zeros_like(s[:, :1]), s[:, :-1]], axis=1)
                made["recurrent"] = -change(config, own["recurrent"], arriving, s)
        grads.append(made)
    return tuple(grads)


def change(config, w, pre, post):
    """Delta w (I, J) of spikes pre (examples, T, I) and post (examples, T, J), from all pairs of steps."""
    t = jnp.arange(pre.shape[1], dtype=w.dtype)
    after = t[None, :] - t[:, None]  # Delta t of an arriving spike (row) and a fired one (column)
    grows = jnp.where(after >= 0, jnp.exp(-jnp.maximum(after, 0) / config.tau_plus), 0)
    shrinks = jnp.where(after < 0, jnp.exp(jnp.minimum(after, 0) / config.tau_minus), 0)
    soft = config.bounds == "soft"
    w_max = 3.2 / len(w) if config.w_max is None else config.w_max
    F_plus = config.a_plus * (w_max - w if soft else jnp.ones_like(w))
    F_minus = config.a_minus * (w if soft else jnp.ones_like(w))
    pairs = lambda F, window: jnp.einsum("ij,bki,kt,btj->ij", F, pre, window, post) / len(pre)
    return pairs(F_plus, grows) - pairs(F_minus, shrinks)

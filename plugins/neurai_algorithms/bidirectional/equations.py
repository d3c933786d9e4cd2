r"""Bidirectional predictive coding on dense layers: energy, sweep, gradient.

    f_l(v) = phi_l(v A_l + b_l),  g_l(v) = phi_{l-1}(v B_l^T + c_{l-1})       up and down, phi_0 the identity
    F = a_f [ L_f(f_L(v_{L-1}), y) + p/2 sum_{0<l<L} |f_l(v_{l-1}) - v_l|^2 ]
      + a_b [ L_b(g_1(v_1), x)     + 1/2 sum_{0<l<L} |g_{l+1}(v_{l+1}) - v_l|^2 ],     v_0 = x, v_L = y
    v_l <- v_l - eta/p dF/dv_l                                                all l at once, from the sweep up
    dtheta = (df_l/dtheta)^T dF/df_l + (dg_l/dtheta)^T dF/dg_l                summed over l, theta all of A, b, B, c

Separate downward weights (bistrict): energy, dynamics, errors and learning are equations 4 to 7 of Oliviers, Tang
and Bogacz 2026, arXiv:2505.23415, whose alpha_disc is a_f and alpha_gen a_b. There the activation is that of the
predicting layer, and squared errors take the place of the losses. Shared weights, B_l = A_l (sweight_bistrict), are the
idea of Qiu et al. 2025, arXiv:2305.18472, in the same energy. As in strict predictive coding, dF/df_l and dF/dg_l are
taken before the last sweep, and the factors they multiply after it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.losses import as_targets, loss_function


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Gradients for both directions; the losses are multiplied by s while v relaxes."""
    if config.eta_trace is not None or config.alpha_f == 0:
        raise NotImplementedError("The definition takes plain steps, eta_trace=None, and begins with a sweep up.")
    x, y = batch
    s = len(x) if config.loss_scale == "per_sample" else config.loss_scale
    full = config.for_inputs(math.prod(x.shape[1:]))  # a_b and p by the number of inputs
    (a_f, a_b), p, loss_b = full.weights, full.precision, loss_function(config.loss_b)
    phi = [layer.activation for layer in model.layers]

    v = [x]
    for f, own in zip(phi, params, strict=True):
        v.append(f(v[-1] @ own["up"]["w"] + own["up"]["b"]))
    *v, outputs = v[1:]
    v_L = as_targets(outputs, y)  # labels as one-hot rows

    def predictions(params, v):
        """f_1(x), ..., f_L(v_{L-1}) and g_1(v_1), ..., g_L(v_L)."""
        up = [f(u @ own["up"]["w"] + own["up"]["b"]) for f, own, u in zip(phi, params, [x, *v], strict=True)]
        B = [own["down"].get("weights", own["up"])["w"] for own in params]
        down = [u @ b.T + own["down"]["b"] for b, own, u in zip(B, params, [*v, v_L], strict=True)]
        return up, [down[0], *(f(u) for f, u in zip(phi, down[1:], strict=False))]

    def F(predicted, v):
        (*up, mu), (nu, *down) = predicted
        one = s * loss(mu, y) + p / 2 * sum(jnp.sum((a - b) ** 2) for a, b in zip(up, v, strict=True))
        other = s * loss_b(nu, x) + 1 / 2 * sum(jnp.sum((a - b) ** 2) for a, b in zip(down, v, strict=True))
        return a_f * one + a_b * other

    def sweep(_, moved):
        v = moved[1]
        slope = jax.grad(lambda v: F(predictions(params, v), v))(v)
        return v, [a - config.eta / p * g for a, g in zip(v, slope, strict=True)]

    before, v = jax.lax.fori_loop(0, config.n, sweep, (v, v))
    seen = v if config.fresh else before
    errors = jax.grad(F)(predictions(params, seen), seen)  # prediction minus v, weighted as in F
    grads = jax.vjp(lambda params: predictions(params, v), params)[1](errors)[0]
    return jax.tree.map(lambda g: g / s, grads)

r"""Predictive coding on a chain of layers, as its papers write it: energy, sweep, gradient.

    eps_l = f_l(v_{l-1}) - v_l,  l < L               prediction errors, v_0 = x; some papers have the other sign
    F = loss(f_L(v_{L-1}), y) + 1/2 sum_l |eps_l|^2  the energy; eps_L = dloss/df_L
    v_l <- v_l - eta dF/dv_l                         a sweep: all l at once, beginning at the feed-forward pass
    dtheta_l = (df_l/dtheta_l)^T eps_l               the gradient

strict        Whittington and Bogacz 2017, doi:10.1162/NECO_a_00949, section 2; dtheta_l from v_{l-1} after the last
              sweep and eps_l before it, as in the code of Rosenbaum 2022, doi:10.1371/journal.pone.0266102
fixed_pred    eps_l <- eps_l + eta (J_{l+1}^T eps_{l+1} - eps_l): the fixed prediction assumption of Rosenbaum 2022
exact         the same with eta = 1 until it rests, which is back-propagation
error         v_l = f_l(v_{l-1}) + e_l and e <- e - eta dF/de: Goemaere et al. 2025, arXiv:2505.20137
incremental   v and theta move in the same sweep: Salvatori et al. 2024, arXiv:2212.00720
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.optax_texts import made


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The gradients; the loss counts s times while v relaxes, a nudge a part beta of it (arXiv:2407.01163)."""
    if config.corrector is not None or config.tol:
        raise NotImplementedError("The definition takes n plain steps: no corrector, and tol=0.")
    (x, y), b = batch, config.beta
    s = len(x) if config.loss_scale == "per_sample" else config.loss_scale
    slope = jax.grad(loss)(climb(model, params, x)[-1], y)  # dloss/dmu at the outputs of the feed-forward pass
    found = []
    for beta in {"clamped": (1.0,), "positive": (b,), "negative": (-b,), "centered": (b, -b)}[config.nudge]:
        nudged = partial(lambda beta, mu: s * (loss(mu, y) - (1 - beta) * jnp.vdot(slope, mu)), beta)
        found.append(MODES[config.mode](config, nudged, s * beta, model, params, state, x))
    return jax.tree.map(lambda *grads: sum(grads) / len(grads), *found)


def predictions(model, theta, x, v):
    """f_1(x), f_2(v_1), ..., f_L(v_{L-1})."""
    return [f.apply(own, (), u, train=True)[0] for f, own, u in zip(model.layers, theta, [x, *v], strict=True)]


def climb(model, theta, x, e=None):
    """v_l = f_l(v_{l-1}) + e_l for l < L, and f_L(v_{L-1}); without e the feed-forward pass."""
    v = [x]
    for l, (f, own) in enumerate(zip(model.layers, theta, strict=True)):
        mu = f.apply(own, (), v[-1], train=True)[0]
        v.append(mu if e is None or l == len(e) else mu + e[l])
    return v[1:]


def energy(loss, f, v):
    """F of the predictions f and of v = [v_1, ..., v_{L-1}]; dF/df_l = eps_l."""
    return loss(f[-1]) + sum(jnp.sum((a - b) ** 2) for a, b in zip(f[:-1], v, strict=True)) / 2


def learn(scale, model, theta, x, v, eps):
    """(df_l/dtheta_l)^T eps_l, in the scale of the loss as it was given."""
    back = jax.vjp(lambda theta: predictions(model, theta, x, v), theta)[1]
    return back([e / scale for e in eps])[0]


def sweeps(eta, n, slope, v):
    """v before and after the last of n sweeps v <- v - eta slope(v)."""
    eta = made(eta) if isinstance(eta, str) else eta

    def sweep(t, moved):
        step = eta(t) if callable(eta) else eta  # a number or a schedule
        return moved[1], jax.tree.map(lambda a, g: a - step * g, moved[1], slope(moved[1]))

    return jax.lax.fori_loop(0, n, sweep, (v, v))


def strict(config, loss, scale, model, theta, state, x):
    """Predictions and errors anew in every sweep."""
    f = partial(predictions, model, theta, x)
    slope = jax.grad(lambda v: energy(loss, f(v), v))
    before, v = sweeps(config.eta, config.n, slope, climb(model, theta, x)[:-1])
    seen = v if config.fresh else before
    return learn(scale, model, theta, x, v, jax.grad(energy, 1)(loss, f(seen), seen))


def fixed_pred(config, loss, scale, model, theta, state, x):
    """Predictions and Jacobians held at the feed-forward pass, where the errors begin at zero."""
    *v, mu = climb(model, theta, x)
    J = jax.vjp(lambda v: predictions(model, theta, x, v), v)[1]

    def slope(eps):
        return [e - back for e, back in zip(eps, J(eps)[0], strict=False)] + [0 * eps[-1]]

    eta, n = (1.0, len(model)) if config.mode == "exact" else (config.eta, config.n)
    before, eps = sweeps(eta, n, slope, [0 * a for a in v] + [jax.grad(loss)(mu)])
    return learn(scale, model, theta, x, v, eps if config.fresh else before)


def error(config, loss, scale, model, theta, state, x):
    """The energy in the coordinates e_l, where v_l - f_l(v_{l-1}) = e_l."""
    slope = jax.grad(lambda e: loss(climb(model, theta, x, e)[-1]) + sum(jnp.sum(a**2) for a in e) / 2)
    _, e = sweeps(config.eta, config.n, slope, [0 * a for a in climb(model, theta, x)[:-1]])
    *v, mu = climb(model, theta, x, e)
    return learn(scale, model, theta, x, v, [-a for a in e] + [jax.grad(loss)(mu)])


def incremental(config, loss, scale, model, theta, state, x):
    """The way that theta went: before the batch minus after it."""
    optimizer, eta = (made(one) if isinstance(one, str) else one for one in (config.optimizer, config.eta))

    def sweep(t, now):
        v, own, carry = now
        dtheta, dv = jax.grad(lambda own, v: energy(loss, predictions(model, own, x, v), v), (0, 1))(own, v)
        step = eta(t) if callable(eta) else eta
        updates, carry = optimizer.update(jax.tree.map(lambda g: g / scale, dtheta), carry, own)
        return [a - step * g for a, g in zip(v, dv, strict=True)], jax.tree.map(jnp.add, own, updates), carry

    _, after, _ = jax.lax.fori_loop(0, config.n, sweep, (climb(model, theta, x)[:-1], theta, state.own))
    return jax.tree.map(jnp.subtract, theta, after)


MODES = {"strict": strict, "fixed_pred": fixed_pred, "exact": fixed_pred, "error": error, "incremental": incremental}

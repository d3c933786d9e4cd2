r"""Predictive coding on a chain of layers, as in the papers: energy, sweep, gradient.

    eps_l = f_l(v_{l-1}) - v_l,  l < L               (54) prediction errors, v_0 = x; the papers have the other sign
    F = loss(f_L(v_{L-1}), y) + 1/2 sum_l |eps_l|^2       the energy, eps_L = dloss/df_L
    v_l <- v_l - eta dF/dv_l                         (53) a sweep: all l at once, beginning at the feed-forward pass
    dtheta_l = (df_l/dtheta_l)^T eps_l               (56) the gradient

Numbers: Bogacz 2017, doi:10.1016/j.jmp.2015.11.003, variances 1; its layers predict inputs from causes. strict: targets
from inputs, Whittington and Bogacz 2017; dtheta_l from v_{l-1} after the last sweep, eps_l before it, Rosenbaum 2022.
fixed_pred: f and its Jacobians stay at the forward pass, Millidge et al. 2022; exact: eta = 1, converged. error: v_l =
f_l(v_{l-1}) + e_l, descent in e, Goemaere et al. 2025. incremental: v and theta together, Salvatori et al. 2024.
"""

import jax
import jax.numpy as jnp

from neurai_core.optax_texts import made


def definition(config, loss, model, params, state, batch, *, key=None):
    """The gradients; s multiplies the loss, and a nudge leaves beta of its slope at the start (arXiv:2407.01163)."""
    if config.corrector is not None or config.tol:
        raise NotImplementedError("The definition takes n plain steps: no corrector, and tol=0.")
    (x, y), b, found = batch, config.beta, []
    s = len(x) if config.loss_scale == "per_sample" else config.loss_scale
    slope = jax.grad(loss)(climb(model, params, x)[-1], y)  # dloss/dmu at the outputs of the feed-forward pass
    for beta in {"clamped": (1.0,), "positive": (b,), "negative": (-b,), "centered": (b, -b)}[config.nudge]:
        nudged = lambda mu, beta=beta: s * (loss(mu, y) - (1 - beta) * jnp.vdot(slope, mu))
        found.append(gradients(config, nudged, s * beta, model, params, state, x))
    return jax.tree.map(lambda *grads: sum(grads) / len(grads), *found)


def gradients(config, loss, scale, model, theta, state, x):
    """dtheta of one mode, at the scale of the given loss; incremental, also the optimizer's state after them."""
    eta, optimizer = (made(one) if isinstance(one, str) else one for one in (config.eta, config.optimizer))
    eta, n = (1.0, len(model)) if config.mode == "exact" else (eta, config.n)
    F = lambda v, theta=theta: energy(loss, predictions(model, theta, x, v), v)
    errors = lambda v: jax.grad(energy, 1)(loss, predictions(model, theta, x, v), v)
    *v, mu = climb(model, theta, x)
    move = lambda t, v, slope: [a - (eta(t) if callable(eta) else eta) * g for a, g in zip(v, slope, strict=True)]
    sweeps = lambda slope, v: jax.lax.fori_loop(0, n, lambda t, w: (w[1], move(t, w[1], slope(w[1]))), (v, v))

    def both(t, now):  # a sweep of v and theta
        dv, dtheta = jax.grad(F, (0, 1))(*now[:2])
        updates, carry = optimizer.update(jax.tree.map(lambda g: g / scale, dtheta), now[2], now[1])
        return move(t, now[0], dv), jax.tree.map(jnp.add, now[1], updates), carry

    if config.mode == "incremental":  # total change of theta: before the batch minus after it
        _, after, own = jax.lax.fori_loop(0, n, both, (v, theta, state.own))
        return jax.tree.map(jnp.subtract, theta, after), own
    if config.mode == "strict":
        before, v = sweeps(jax.grad(F), v)  # v before and after the last sweep
        eps = errors(v if config.fresh else before)
    elif config.mode == "error":
        of_e = jax.grad(lambda e: loss(climb(model, theta, x, e)[-1]) + sum(jnp.sum(a**2) for a in e) / 2)
        v = climb(model, theta, x, sweeps(of_e, [0 * a for a in v])[1])[:-1]
        eps = errors(v)
    else:  # predictions and their Jacobians J held at the feed-forward pass, where eps_l = 0 for l < L
        J = jax.vjp(lambda v: predictions(model, theta, x, v), v)[1]
        down = lambda eps: [a - back for a, back in zip(eps, J(eps)[0], strict=False)] + [0 * eps[-1]]
        eps = sweeps(down, [0 * a for a in v] + [jax.grad(loss)(mu)])[int(config.fresh)]
    return jax.vjp(lambda theta: predictions(model, theta, x, v), theta)[1]([e / scale for e in eps])[0]


def predictions(model, theta, x, v):
    """f_1(x), f_2(v_1), ..., one more than there are v."""
    return [f.apply(own, (), u, train=True)[0] for f, own, u in zip(model.layers, theta, [x, *v], strict=False)]


def climb(model, theta, x, e=()):
    """v_l = f_l(v_{l-1}) + e_l for l < L, and f_L(v_{L-1}); without e the feed-forward pass."""
    v = []
    for l in range(len(model)):
        v.append(predictions(model, theta, x, v)[-1] + (e[l] if l < len(e) else 0))
    return v


def energy(loss, f, v):
    """F of the predictions f and of v = [v_1, ..., v_{L-1}]; dF/df_l = eps_l."""
    return loss(f[-1]) + sum(jnp.sum((a - b) ** 2) for a, b in zip(f[:-1], v, strict=True)) / 2

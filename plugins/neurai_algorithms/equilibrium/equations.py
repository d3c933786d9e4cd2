r"""Equilibrium propagation on layers that are linear, then elementwise: energy, phases, contrast.

    hopfield   E = sum_l 1/2 |u_l|^2 - sum_l rho(u_{l+1}) . (rho(u_l) W_l + b_l)                                  (1)
    gaussian   E = sum_l |u_{l+1} - rho(u_l) W_l - b_l|^2
    phases     F = E + beta C (3),  u <- u - dt/tau dF/du (4):  beta = 0, the free phase, and from there nudged
    contrast   dC/dtheta ~ (dE/dtheta (nudged) - dE/dtheta (free)) / beta                                        (23)

u_0 = x, which rho leaves alone. Equation numbers are those of Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024,
whose (1) has any symmetric weights, and whose (4) is in continuous time. Mode symmetric is
(dE/dtheta (beta) - dE/dtheta (-beta)) / 2 beta, Laborieux et al. 2021, doi:10.3389/fnins.2021.633674, and richardson
extrapolates it; the other modes are not defined here. C, the loss, is a mean over examples, and so is E; an example
moves by its own gradient.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.layered import activation_function, hard_sigmoid


def definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """sum_k w_k dE/dtheta(u_k), where u_k is the end of a phase with nudge beta_k from the free state."""
    (x, y), hopfield, rho = batch, config.energy == "hopfield", activations(config, model)
    init = config.init or ("zeros" if hopfield else "feedforward")
    known = config.mode in CONTRASTS and config.energy in ("gaussian", "hopfield") and init in ("zeros", "feedforward")
    moved = config.order != "synchronous" or config.coordinates != "activities"
    other = moved or config.tol or config.linearized or (hopfield and hard_sigmoid in rho)
    if other or not known:
        raise NotImplementedError(f"The definition has synchronous steps, tol=0 and the modes {', '.join(CONTRASTS)}.")

    def inputs(theta, u):
        """rho(u_l) W_l + b_l of every layer."""
        below = [x, *(r(v) for r, v in zip(rho, u, strict=False))]
        return [layer.linear(own, s) for layer, own, s in zip(model.layers, theta, below, strict=False)]

    def E(theta, u):
        if hopfield:
            pairs = zip(rho, u, inputs(theta, u), strict=True)
            return sum(jnp.sum(v**2) / 2 - jnp.sum(r(v) * i) for r, v, i in pairs) / len(x)  # (1)
        return sum(jnp.sum((v - i) ** 2) for v, i in zip(u, inputs(theta, u), strict=True)) / len(x)

    def F(u, beta):
        return E(params, u) + beta * loss(u[-1] if hopfield else rho[-1](u[-1]), y)  # (3)

    def phase(u, beta, steps):
        def step(_, u):
            slope = jax.grad(F)(u, beta)
            return [v - config.dt / config.tau * len(x) * g for v, g in zip(u, slope, strict=True)]  # (4)

        return jax.lax.fori_loop(0, steps, step, u)

    u: list[Any] = []
    for _ in model.layers:  # the feed-forward pass
        u.append(inputs(params, u)[-1])
    free = phase([0 * v for v in u] if init == "zeros" else u, 0.0, config.n_relax)
    n, b = config.n_nudged or config.n_relax, config.beta
    ends = [(w / b, phase(free, share * b, n if moves else 0)) for share, w, moves in CONTRASTS[config.mode]]
    return jax.grad(lambda theta: sum(w * E(theta, u) for w, u in ends))(params)  # (23)


def activations(config, model):
    """rho of u_1, ..., u_L: that of the layer or of the settings, which gaussian leaves to the outputs."""
    own = [layer.activation for layer in model.layers]
    if config.activation is None:
        return own
    given = [activation_function(config.activation)] * len(own)
    return given if config.energy == "hopfield" else given[:-1] + own[-1:]


CONTRASTS: dict[str, Any] = {  # (beta_k / beta, w_k beta, whether the phase moves on from the free state)
    "two_phase": [(1, 1, True), (0, -1, False)],
    "two_phase_matched": [(1, 1, True), (0, -1, True)],
    "symmetric": [(1, 1 / 2, True), (-1, -1 / 2, True)],
    "richardson": [(1 / 2, 4 / 3, True), (-1 / 2, -4 / 3, True), (1, -1 / 6, True), (-1, 1 / 6, True)],
}

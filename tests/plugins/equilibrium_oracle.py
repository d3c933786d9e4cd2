"""Oracles for equilibrium propagation, written from the formulas and sharing no code with the library."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from neurai_core.layered import Layered, dense
from neurai_core.losses import cross_entropy, squared_error

SIZES = (6, 5, 4, 3)
COSTS = {"squared_error": squared_error, "cross_entropy": cross_entropy}
DT = {"hopfield": 0.5, "gaussian": 0.2}
PAIRS = [("hopfield", "squared_error"), ("gaussian", "cross_entropy")]  # each energy and each cost once


def rho(u):
    return 1 / (1 + jnp.exp(-u))


def hopfield(params, x, u):
    """Batch mean of sum_l 1/2 |u_l|^2 - sum_l rho(u_{l+1}) . (rho(u_l) W_l + b_l)."""
    fired = [x, *(rho(v) for v in u)]
    energy = 0.5 * jnp.sum(x**2) + sum(0.5 * jnp.sum(v**2) for v in u)
    for p, below, above in zip(params, fired[:-1], fired[1:], strict=True):
        energy -= jnp.sum(above * (below @ p["w"] + p["b"]))
    return energy / len(x)


def gaussian(params, x, u):
    """Batch mean of sum_l |u_{l+1} - rho(u_l) W_l - b_l|^2."""
    fired = [x, *(rho(v) for v in u)]
    parts = zip(params, fired, u, strict=False)
    return sum(jnp.sum((v - below @ p["w"] - p["b"]) ** 2) for p, below, v in parts) / len(x)


ENERGIES = {"hopfield": hopfield, "gaussian": gaussian}


def problem(seed=0, sizes=SIZES, batch=4, scale=1.0):
    """A dense network with the sigmoid, its parameters, and a batch with one-hot targets."""
    keys = iter(jax.random.split(jax.random.key(seed), 3 * len(sizes)))
    params = tuple(
        {
            "w": scale * jax.random.normal(next(keys), (n, m)) / jnp.sqrt(n),
            "b": 0.3 * jax.random.normal(next(keys), (m,)),
        }
        for n, m in pairwise(sizes)
    )
    x = jax.random.normal(next(keys), (batch, sizes[0]))
    y = jax.nn.one_hot(jnp.arange(batch) % sizes[-1], sizes[-1])
    model = Layered([*(dense(m, "sigmoid") for m in sizes[1:-1]), dense(sizes[-1])])
    return model, params, (x, y)


def zeros(params, x):
    return tuple(jnp.zeros((len(x), p["b"].size)) for p in params)


def descend(energy, cost, params, batch, u, n, dt, beta=0.0):
    """n Euler steps; every example moves by its own gradient."""
    x, y = batch

    def total(u):
        return len(x) * (energy(params, x, u) + beta * cost(u[-1], y))

    def step(u, _):
        return jax.tree.map(lambda v, g: v - dt * g, u, jax.grad(total)(u)), None

    return jax.lax.scan(step, u, None, length=n)[0]


@partial(jax.jit, static_argnums=(0, 1))
def rest(energy_name, cost_name, params, batch, beta=0.0):
    """The equilibrium, to rounding."""
    u = zeros(params, batch[0])
    return descend(ENERGIES[energy_name], COSTS[cost_name], params, batch, u, 1500, DT[energy_name], beta)


@partial(jax.jit, static_argnums=(0, 1))
def implicit(energy_name, cost_name, params, batch):
    """-(d/dtheta dE/du) lambda with H lambda = dC/du, by the dense Hessian."""
    energy, cost, (x, y) = ENERGIES[energy_name], COSTS[cost_name], batch
    flat, unravel = ravel_pytree(rest(energy_name, cost_name, params, batch))
    hessian = jax.hessian(lambda v: energy(params, x, unravel(v)))(flat)
    pull = jax.grad(lambda v: cost(unravel(v)[-1], y))(flat)
    solved = jnp.linalg.solve(hessian, pull)
    return jax.grad(lambda p: -jnp.vdot(jax.grad(lambda v: energy(p, x, unravel(v)))(flat), solved))(params)


@partial(jax.jit, static_argnums=(0, 1, 4))
def unrolled(energy_name, cost_name, params, batch, n, dt=None):
    """Back-propagation through the last n steps of a relaxation that has settled before."""
    dt = DT[energy_name] if dt is None else dt
    u = jax.lax.stop_gradient(rest(energy_name, cost_name, params, batch))

    def cost_at_end(params):
        end = descend(ENERGIES[energy_name], COSTS[cost_name], params, batch, u, n, dt)
        return COSTS[cost_name](end[-1], batch[1])

    return jax.grad(cost_at_end)(params)


@partial(jax.jit, static_argnums=(0, 1))
def lowest(energy_name, cost_name, params, batch, beta):
    """min over u of E + beta C, batch mean."""
    u = rest(energy_name, cost_name, params, batch, beta)
    return ENERGIES[energy_name](params, batch[0], u) + beta * COSTS[cost_name](u[-1], batch[1])


def flat(tree):
    return ravel_pytree(tree)[0]


def distance(a, b):
    """|a - b| / |b|."""
    return float(jnp.linalg.norm(flat(a) - flat(b)) / jnp.linalg.norm(flat(b)))


def cosine(a, b):
    a, b = flat(a), flat(b)
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))

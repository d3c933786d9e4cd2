"""The dynamics of equilibrium propagation: du/dt = -dF/du in steps of dt / tau, all phases alike.

Memory does not grow with the number of steps, and no phase is differentiated through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.costs import Cost
from neurai_algorithms.residuals import mean_norm, residual_of, settle
from neurai_core.arrays import PyTree, Scalar
from neurai_core.energy import Activities, Chain, Energy, on_columns
from neurai_core.relaxation import relax

BLOWN_UP = 1e6  # a force or activity of this size, or not finite, means that the activities ran away


class Settled(NamedTuple):
    """Where a phase ended.

    Attributes:
        u: the activities.
        steps: number of steps taken.
        residual: norm of the force before the last step, mean over the batch, summed over layers.
        trace: ``{"energy", "residual"}`` before every step and at the end, ``(n + 1,)``; empty unless asked for.
    """

    u: Activities
    steps: Scalar
    residual: Scalar
    trace: dict[str, jax.Array]

    @property
    def blown_up(self) -> Scalar:
        """Whether some force was huge or not finite: it is as large as the activities when these run away."""
        return ~jnp.all(self.residual < BLOWN_UP)

    def or_zeros(self) -> Settled:
        """Zeros in place of activities that blew up, so that neither NaN nor Inf reaches the parameters."""
        return self._replace(u=tuple(jnp.where(self.blown_up, 0, v) for v in self.u))


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """How the activities of one batch move: what the chain of layers and the network of names have in common.

    Attributes:
        params: parameters of the model.
        cost: what nudges; None when there are no targets.
        rate: number of the step -> dt / tau.
        tol: a phase ends once the residual is below; the Python number 0 never looks.
        check_every: looks every this many steps.
    """

    params: PyTree
    cost: Cost | None
    rate: Callable[[Scalar], Scalar]
    tol: Any = 0.0
    check_every: int = 1

    # ---- what there is to move

    @property
    def shapes(self) -> Activities:
        """Shapes and types of the activities."""
        raise NotImplementedError

    def feedforward(self) -> Activities:
        """The activities of a forward pass."""
        raise NotImplementedError

    def project(self, activities: Activities) -> Activities:
        """Activities brought back to where they may be."""
        return activities

    def state(self, activities: Activities) -> Activities:
        """What a relaxation moves, for these activities: themselves, or their distance from somewhere."""
        return activities

    def activities(self, u: Activities) -> Activities:
        """The activities of a state, the inverse of ``state``."""
        return u

    @property
    def settled_by_feedforward(self) -> bool:
        """Whether the activities of a forward pass are an exact minimum of E."""
        raise NotImplementedError

    def learned(self, params: PyTree) -> Dynamics:
        """The same batch with other parameters."""
        raise NotImplementedError

    # ---- what is descended on

    def outputs(self, u: Activities) -> jax.Array:
        """What the cost sees."""
        raise NotImplementedError

    def total(self, u: Activities, beta: Any) -> Scalar:
        """F = E + beta C, mean over the batch, real part; beta None for a free phase."""
        raise NotImplementedError

    def step(self, t: Scalar, u: Activities, beta: Any, clamped: bool = False) -> tuple[Activities, Activities]:
        """One step, and the forces that moved the activities."""
        raise NotImplementedError

    def clamped(self, u: Activities, beta: Any) -> Activities:
        """The state with the outputs at ``o - beta dC/do``."""
        raise NotImplementedError

    def mean_cost(self, u: Activities) -> Scalar:
        """C, mean over the batch."""
        assert self.cost is not None
        return self.cost.value(self.outputs(u))

    # ---- what is learned from it

    def contrast(self, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch."""
        raise NotImplementedError

    def linearized(self, u: Activities, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``(d^2 E / dtheta du)`` at u, times ``sum_k Re(w_k (u_k - u))``, mean over the batch."""
        raise NotImplementedError

    # ---- phases

    def scale(self, n: int) -> Scalar:
        """What the largest of n steps is multiplied by to be stable."""
        raise NotImplementedError

    def settle(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Up to n steps from u."""
        return self._settle(u, beta, n, clamped).or_zeros()

    def _settle(self, u: Activities, beta: Any, n: int, clamped: bool) -> Settled:
        def step(t: Scalar, u: Activities) -> tuple[Activities, Activities]:
            return self.step(t, u, beta, clamped)

        return Settled(*settle(step, self.residual, u, n, self.tol, self.check_every), {})

    def residual(self, forces: Activities) -> Scalar:
        """Norm of the force of every example, mean over the batch, summed over layers."""
        return residual_of(forces)

    def traced(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Exactly n steps, with what was seen on the way."""

        def seen(u: Activities) -> dict[str, jax.Array]:
            return {
                "energy": self.total(u, None if clamped else beta),
                "residual": self.residual(self.step(jnp.asarray(0), u, beta, clamped)[1]),
                "largest": jnp.stack([jnp.max(jnp.abs(v)) for v in self.activities(u)]),
            }

        done = relax(lambda t, u: self.step(t, u, beta, clamped)[0], u, n, observe=seen)
        return Settled(done.state, done.steps, done.trace["residual"][-2], done.trace).or_zeros()


@dataclass(frozen=True, kw_only=True)
class ChainDynamics(Dynamics):
    """How the activities of a chain of layers move, on any energy.

    Attributes:
        energy: what they descend.
        chain: the network with its inputs.
        drive: ``chain.drive(params)``.
        limit: the largest ``rate`` to take; None takes any.
        even_odd: whether every other layer moves in turn, the even ones (from 0) first.
    """

    energy: Energy
    chain: Chain
    drive: jax.Array
    limit: Scalar | None = None
    even_odd: bool = False

    @property
    def shapes(self) -> Activities:
        """Shapes and types of the activities."""
        found: Activities = jax.eval_shape(lambda params: self.energy.feedforward(self.chain, params), self.params)
        return found

    def feedforward(self) -> Activities:
        """The activities of a forward pass."""
        return self.energy.feedforward(self.chain, self.params)

    def project(self, activities: Activities) -> Activities:
        """Activities brought back to where they may be."""
        return self.energy.project(self.chain, activities)

    @property
    def settled_by_feedforward(self) -> bool:
        """Whether the activities of a forward pass are an exact minimum of E."""
        return self.energy.settled_by_feedforward

    def learned(self, params: PyTree) -> ChainDynamics:
        """The same batch with other parameters."""
        return replace(self, params=params, drive=self.chain.drive(params))

    def outputs(self, u: Activities) -> jax.Array:
        """What the cost sees of the last activities."""
        return self.energy.outputs(self.chain, self.params, u[-1])

    def force(self, u: Activities, beta: Any) -> Activities:
        """dF/du, F = E + beta C; beta None for a free phase."""
        nudge = None if beta is None else beta * self.pull(u)
        return self.energy.force(self.chain, self.params, self.drive, u, nudge)

    def pull(self, u: Activities) -> jax.Array:
        """dC/du_L of every example."""
        assert self.cost is not None
        top = u[-1].T if self.chain.batch_last else u[-1]
        outputs, back = jax.vjp(lambda top: self.energy.outputs(self.chain, self.params, top), top)
        pulled = back(self.cost.gradient(outputs))[0]
        return pulled.T if self.chain.batch_last else pulled

    def clamped(self, u: Activities, beta: Any) -> Activities:
        """The last activities at ``u_L - beta dC/du_L``."""
        return (*u[:-1], u[-1] - beta * self.pull(u))

    def mean_cost(self, u: Activities) -> Scalar:
        """C of real activities, mean over the batch; the imaginary parts of a nudge that is real are rounding."""
        return super().mean_cost(tuple(v.real for v in u))

    def total(self, u: Activities, beta: Any) -> Scalar:
        """F = E + beta C, mean over the batch, real part."""
        chain, (laid,) = self.energy.laid_out(self.chain, [u])
        energy = jnp.mean(self.energy.value(chain, self.params, laid)).real
        return energy if beta is None else energy + jnp.real(beta) * self.mean_cost(u)

    def step(self, t: Scalar, u: Activities, beta: Any, clamped: bool = False) -> tuple[Activities, Activities]:
        """One step, and the forces that moved the activities."""
        rate = self.rate(t) if self.limit is None else jnp.minimum(self.rate(t), self.limit)
        moved = []
        for half in (0, 1) if self.even_odd else (None,):
            force = self.force(u, None if clamped else beta)
            moving = [(half is None or l % 2 == half) and not (clamped and l == len(u) - 1) for l in range(len(u))]
            steps = zip(u, force, moving, strict=True)
            u = self.energy.project(self.chain, tuple(v - rate * f if m else v for v, f, m in steps))
            moved += [f for f, m in zip(force, moving, strict=True) if m]
        return u, tuple(moved)

    def scale(self, n: int) -> Scalar:
        """What the largest of n steps is multiplied by, 1 unless it is above the limit."""
        largest = jnp.max(jax.vmap(self.rate)(jnp.arange(n)))
        return jnp.ones_like(largest) if self.limit is None else jnp.minimum(1, self.limit / largest)

    def settle(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Up to n steps from u, in whatever layout is faster."""
        chain, (laid,) = self.energy.laid_out(self.chain, [u])
        dynamics = replace(self, chain=chain, drive=self.drive.T) if chain.batch_last else self
        settled = dynamics._settle(laid, beta, n, clamped).or_zeros()
        return settled._replace(u=on_columns(settled.u)) if chain.batch_last else settled

    def residual(self, forces: Activities) -> Scalar:
        """Sum over layers of `mean_norm`."""
        return jnp.sum(jnp.stack([mean_norm(force, -1 if self.chain.batch_last else 0) for force in forces]))

    def contrast(self, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch."""
        return self.energy.contrast(self.chain, self.params, states, weights)

    def linearized(self, u: Activities, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``(d^2 E / dtheta du)`` at u, times ``sum_k Re(w_k (u_k - u))``, mean over the batch."""
        change = weighted_change(u, states, weights)

        def slope(params: PyTree) -> Scalar:
            def energy(u: Activities) -> Scalar:
                return jnp.mean(self.energy.value(self.chain, params, u))

            return jax.jvp(energy, (u,), (change,))[1]

        return jax.grad(slope)(self.params)


def weighted_change(u: Activities, states: Sequence[Activities], weights: jax.Array) -> Activities:
    """``sum_k Re(w_k (u_k - u))``."""

    def weighted(v: jax.Array, *layers: jax.Array) -> jax.Array:
        return sum(((w * (layer - v)).real for w, layer in zip(weights, layers, strict=True)), jnp.zeros_like(v))

    return tuple(map(weighted, u, *states))

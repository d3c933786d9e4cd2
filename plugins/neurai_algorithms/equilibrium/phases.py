"""The dynamics of equilibrium propagation: du/dt = -dF/du in steps of dt / tau, the same for all phases.

Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024, equation 4.

The dynamics of layers is in `chain`, that of networks of named values in `network`. Memory does not grow with the
number of steps, and no phase is differentiated through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.costs import Cost
from neurai_algorithms.residuals import residual_of, settle
from neurai_core.arrays import PyTree, Scalar
from neurai_core.energy import Activities
from neurai_core.relaxation import relax

BLOWN_UP = 1e6  # a force or activity of this size, or a non-finite one, means that the activities diverged


class Settled(NamedTuple):
    """Where a phase ended.

    Attributes:
        u: the activities.
        steps: number of steps taken.
        residual: norm of the force before the last step, mean over the batch, summed over layers.
        trace: ``{"energy", "residual"}`` before every step and at the end, ``(n + 1,)``; empty unless requested.
    """

    u: Activities
    steps: Scalar
    residual: Scalar
    trace: dict[str, jax.Array]

    @property
    def blown_up(self) -> Scalar:
        """Whether any force was huge or not finite; when activities diverge, forces are as large as they are."""
        return ~jnp.all(self.residual < BLOWN_UP)

    def or_zeros(self) -> Settled:
        """Zeros in place of activities that blew up, so that neither NaN nor Inf reaches the parameters."""
        return self._replace(u=tuple(jnp.where(self.blown_up, 0, v) for v in self.u))


class Descent(NamedTuple):
    """How activities descend, for any model.

    Attributes:
        rate: number of the step -> dt / tau.
        steps: number of steps of the longest phase.
        stable: whether to take a smaller step where the energy is too curved.
        nudge: curvature that nudging adds at the outputs.
        tol: a phase ends once the residual is below this; the Python number 0 disables the check.
        check_every: number of steps between checks.
        even_odd: whether every other layer moves in turn, the even ones (from 0) first.
    """

    rate: Callable[[Scalar], Any]
    steps: int
    stable: bool = False
    nudge: Any = 0.0
    tol: Any = 0.0
    check_every: int = 1
    even_odd: bool = False


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """Dynamics of one batch: the interface shared by chains of layers and networks of named values.

    Attributes:
        params: parameters of the model.
        cost: the nudging cost; None without targets.
        descent: how activities descend.
    """

    params: PyTree
    cost: Cost | None
    descent: Descent

    # ---- activities and states

    @property
    def shapes(self) -> Activities:
        """Shapes and types of the activities."""
        raise NotImplementedError

    def feedforward(self) -> Activities:
        """The activities of a forward pass."""
        raise NotImplementedError

    def project(self, activities: Activities) -> Activities:
        """Activities projected back into their allowed range."""
        return activities

    def state(self, activities: Activities) -> Activities:
        """The state that a relaxation moves: the activities, or their distance from a reference point."""
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

    # ---- energy and forces

    def outputs(self, u: Activities) -> jax.Array:
        """The outputs, as the cost takes them."""
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

    # ---- gradients

    def contrast(self, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch."""
        raise NotImplementedError

    def linearized(self, u: Activities, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``(d^2 E / dtheta du)`` at u, times ``sum_k Re(w_k (u_k - u))``, mean over the batch."""
        raise NotImplementedError

    # ---- phases

    def scale(self, n: int) -> Scalar:
        """The factor that makes the largest of n steps stable."""
        raise NotImplementedError

    def settle(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Up to n steps from u."""
        return self._settle(u, beta, n, clamped).or_zeros()

    def _settle(self, u: Activities, beta: Any, n: int, clamped: bool) -> Settled:
        def step(t: Scalar, u: Activities) -> tuple[Activities, Activities]:
            return self.step(t, u, beta, clamped)

        return Settled(*settle(step, self.residual, u, n, self.descent.tol, self.descent.check_every), {})

    def residual(self, forces: Activities) -> Scalar:
        """Norm of the force of every example, mean over the batch, summed over layers."""
        return residual_of(forces)

    def traced(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Take exactly n steps and record a trace."""

        def seen(u: Activities) -> dict[str, jax.Array]:
            return {
                "energy": self.total(u, None if clamped else beta),
                "residual": self.residual(self.step(jnp.asarray(0), u, beta, clamped)[1]),
                "largest": jnp.stack([jnp.max(jnp.abs(v)) for v in self.activities(u)]),
            }

        done = relax(lambda t, u: self.step(t, u, beta, clamped)[0], u, n, observe=seen)
        return Settled(done.state, done.steps, done.trace["residual"][-2], done.trace).or_zeros()


def weighted_change(u: Activities, states: Sequence[Activities], weights: jax.Array) -> Activities:
    """``sum_k Re(w_k (u_k - u))``."""

    def weighted(v: jax.Array, *layers: jax.Array) -> jax.Array:
        return sum(((w * (layer - v)).real for w, layer in zip(weights, layers, strict=True)), jnp.zeros_like(v))

    return tuple(map(weighted, u, *states))

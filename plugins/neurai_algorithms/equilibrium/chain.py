"""Equilibrium propagation on layers: descent of a chain's activities on any energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.costs import Cost
from neurai_algorithms.equilibrium.energies import Hopfield
from neurai_algorithms.equilibrium.phases import Descent, Dynamics, Settled, weighted_change
from neurai_algorithms.equilibrium.skips import chain_with_skips, skips_of
from neurai_algorithms.residuals import mean_norm
from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.curvature import SAFE
from neurai_core.energy import Activities, Chain, Energy, chain_of, on_columns
from neurai_core.layered import ACTIVATIONS, Layered


def chain_dynamics(
    model: Layered,
    params: PyTree,
    x: PyTree,
    model_state: PyTree,
    cost: Cost | None,
    key: Any,
    descent: Descent,
    energy: Energy,
    activation: Elementwise | None,
    fuse: bool = False,
) -> ChainDynamics:
    """Dynamics of one batch on layers.

    Args:
        model: the layers.
        params: their parameters.
        x: inputs.
        model_state: their collections, which do not change.
        cost: the nudging cost; None without targets, and the model is then in evaluation mode.
        key: PRNG key of stochastic layers; the draw is held fixed.
        descent: how activities descend.
        energy: the energy they descend on.
        activation: replaces the model's own; None keeps those.
        fuse: whether layers without parameters are joined to the layer before them.

    Raises:
        ModelError: a layer is not supported.
    """
    params, x = _working(model, params, x)
    chain = bound(
        energy,
        model,
        params,
        x,
        model_state=model_state,
        key=key,
        train=cost is not None,
        activation=activation,
        activation_last=energy.activation_last,
        fuse=fuse,
    )
    energy.check(chain)
    drive, limit = chain.drive(params), None
    if descent.stable:
        nudge = jnp.asarray(descent.nudge, drive.dtype)
        limit = SAFE / energy.curvature(chain, params, nudge, descent.even_odd)
    return ChainDynamics(
        params=params, cost=cost, descent=descent, energy=energy, chain=chain, drive=drive, limit=limit
    )


def bound(energy: Energy, model: Layered, params: PyTree, x: jax.Array, **options: Any) -> Chain:
    """The blocks of a model bound to its inputs, as an energy takes them; options are those of `chain_of`."""
    return (chain_with_skips if isinstance(energy, Hopfield) else chain_of)(model, params, x, **options)


def _working(model: Layered, params: PyTree, x: jax.Array) -> tuple[PyTree, jax.Array]:
    """Parameters and inputs in the type of the activities: float32 at least, whatever the parameters are."""
    x = model.inputs(params, x)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves((params, x)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    dtype = jnp.result_type(jnp.float32, *dtypes)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return params, x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _rows(v: jax.Array) -> jax.Array:
    return v.reshape(len(v), -1)


@dataclass(frozen=True, kw_only=True)
class ChainDynamics(Dynamics):
    """Dynamics of the activities of a chain of layers, on any energy.

    Attributes:
        energy: the energy they descend on.
        chain: the network with its inputs.
        drive: ``chain.drive(params)``.
        limit: the largest step to take; None for no limit.
    """

    energy: Energy
    chain: Chain
    drive: jax.Array
    limit: Scalar | None = None

    @property
    def shapes(self) -> Activities:
        """Shapes and types of the activities."""
        found: Activities = jax.eval_shape(lambda params: self.energy.feedforward(self.chain, params), self.params)
        return found

    def feedforward(self) -> Activities:
        """The activities of a forward pass."""
        return self.energy.feedforward(self.chain, self.params)

    def project(self, activities: Activities) -> Activities:
        """Activities projected back into their allowed range."""
        return self.energy.project(self.chain, activities)

    @property
    def settled_by_feedforward(self) -> bool:
        """Whether the activities of a forward pass are an exact minimum of E."""
        return self.energy.settled_by_feedforward

    def learned(self, params: PyTree) -> ChainDynamics:
        """The same batch with other parameters."""
        return replace(self, params=params, drive=self.chain.drive(params))

    def outputs(self, u: Activities) -> jax.Array:
        """The last activities, as the cost takes them."""
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
        rate = self._rate(t) if self.limit is None else jnp.minimum(self._rate(t), self.limit)
        moved = []
        for half in (0, 1) if self.descent.even_odd else (None,):
            force = self.force(u, None if clamped else beta)
            moving = [(half is None or l % 2 == half) and not (clamped and l == len(u) - 1) for l in range(len(u))]
            steps = zip(u, force, moving, strict=True)
            # The second half of an even-odd step sees what the first has moved.
            u = self.energy.project(self.chain, tuple(v - rate * f if m else v for v, f, m in steps))
            moved += [f for f, m in zip(force, moving, strict=True) if m]
        return u, tuple(moved)

    def _rate(self, t: Scalar) -> Scalar:
        return jnp.asarray(self.descent.rate(t), self.drive.dtype)

    def scale(self, n: int) -> Scalar:
        """The factor on the largest of n steps, 1 unless it is above the limit."""
        largest = jnp.max(jax.vmap(self._rate)(jnp.arange(n)))
        return jnp.ones_like(largest) if self.limit is None else jnp.minimum(1, self.limit / largest)

    def settle(self, u: Activities, beta: Any, n: int, clamped: bool = False) -> Settled:
        """Take up to n steps from u, in whichever layout is faster."""
        chain, (laid,) = self.energy.laid_out(self.chain, [u])
        if chain.batch_last:
            settled = replace(self, chain=chain, drive=self.drive.T)._settle(laid, beta, n, clamped).or_zeros()
            return settled._replace(u=on_columns(settled.u))
        if not self._fits_rows(u):
            return self._settle(u, beta, n, clamped).or_zeros()
        rows = replace(self, chain=chain.on_rows(u), drive=_rows(self.drive))
        settled = rows._settle(tuple(map(_rows, u)), beta, n, clamped).or_zeros()
        return settled._replace(u=tuple(v.reshape(shape.shape) for v, shape in zip(settled.u, u, strict=True)))

    def _fits_rows(self, u: Activities) -> bool:
        """Whether images may become rows: nothing depends on their axes, and the cost does not see them."""
        known = all(block.rho in ACTIVATIONS.values() for block in self.chain.blocks)
        return self.energy.any_layout and known and u[-1].ndim == 2 and not skips_of(self.chain)

    def residual(self, forces: Activities) -> Scalar:
        """Sum over layers of `mean_norm`."""
        return jnp.sum(jnp.stack([mean_norm(force, -1 if self.chain.batch_last else 0) for force in forces]))

    def contrast(self, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch."""
        return self.energy.contrast(self.chain, self.params, states, weights)

    def readout(self, tops: jax.Array, shares: jax.Array) -> PyTree:
        """``sum_k Re(s_k dC/dparams(u_k))``: the cost's own share, where the readout has parameters."""
        cost = self.cost
        assert cost is not None

        def share(params: PyTree) -> Scalar:
            outputs = jax.vmap(lambda top: self.energy.outputs(self.chain, params, top))(tops)
            # dC/do is held: the outputs alone carry the readout's parameters here.
            pulls = jax.lax.stop_gradient(jax.vmap(cost.gradient)(outputs))
            scores = jax.vmap(lambda pull, o: jnp.sum(pull * o))(pulls, outputs)
            return jnp.real(jnp.sum(shares * scores)) / len(self.chain.x)

        return jax.grad(share)(self.params)

    def linearized(self, u: Activities, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``(d^2 E / dtheta du)`` at u, times ``sum_k Re(w_k (u_k - u))``, mean over the batch."""
        change = weighted_change(u, states, weights)

        def slope(params: PyTree) -> Scalar:
            def energy(u: Activities) -> Scalar:
                return jnp.mean(self.energy.value(self.chain, params, u))

            return jax.jvp(energy, (u,), (change,))[1]

        return jax.grad(slope)(self.params)

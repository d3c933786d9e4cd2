r"""Equilibrium propagation on any network of named values, with the gaussian energy.

    E = sum_k sum_i |mu_ki(v) - v_k|^2 + |mu_o(v) - o|^2 ,    F = E + beta C(o)

``v_k`` are the named values, ``mu_ki`` the i-th prediction of ``v_k``, ``o`` the outputs, also an activity. Outputs
that depend on parameters only through named values are a function of these instead, o(v), without an error of their
own. So a chain whose pre-activations are named is the chain of layers of `energies`.

As in strict predictive coding on networks, the state is the distance of all activities from the feed-forward pass, and
changes are carried through the program of the model, so that float32 keeps its digits at small nudges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import add, like, subtract, widened, zeros
from neurai_algorithms.equilibrium.costs import Cost
from neurai_algorithms.equilibrium.phases import Descent, Dynamics, weighted_change
from neurai_algorithms.predictive_coding.network_task import (
    Errors,
    errors_around,
    errors_of,
    gradients_at,
    in_reverse_only,
)
from neurai_algorithms.predictive_coding.task import half_square
from neurai_algorithms.residuals import mean_norm
from neurai_algorithms.stable_step import Curvature, curvature_of_activities, looked_at, step_scale
from neurai_core.arrays import PyTree, Scalar, batch_size, shape_text
from neurai_core.changes import Around
from neurai_core.energy import Activities
from neurai_core.errors import ModelError
from neurai_core.network import Network, learning_network


def network_dynamics(
    model: Any,
    params: PyTree,
    x: PyTree,
    model_state: PyTree,
    cost: Cost | None,
    key: Any,
    descent: Descent,
    kind: type[NetworkDynamics] | None = None,
) -> NetworkDynamics:
    """Dynamics of one batch on a network of named values.

    Args:
        model: a callable with named values.
        params: its parameters.
        x: inputs.
        model_state: its collections.
        cost: the nudging cost; None without targets, and the model is then in evaluation mode.
        key: PRNG key of stochastic layers; the draw is held fixed.
        descent: how activities descend.
        kind: what states are; distances from the forward pass by default.

    Raises:
        ModelError: only outputs are named, or the model does not return a single array of floats.
    """
    learns = cost is not None
    network = learning_network(model, params, x, model_state=model_state, key=key, train=learns)
    here = Around(network.function, params, model_state, x)
    outputs = here.outputs[0]
    if not (isinstance(outputs, jax.Array) and jnp.issubdtype(outputs.dtype, jnp.floating) and outputs.ndim):
        raise ModelError(
            f"EP: the model returns {shape_text(outputs)}, expected one array of floats to be nudged.",
            hint="Return the outputs that the loss is given, batch axis first.",
        )
    direct, _ = network.outputs_from((params, model_state), x)
    dynamics = (kind or NetworkDynamics)(
        params=params,
        cost=cost,
        descent=descent,
        network=network,
        model_state=model_state,
        x=x,
        here=here,
        predicts_outputs=bool(direct.parameters) or not direct.activities,
        clamps=direct.activities,
    )
    moves = learns or not dynamics.settled_by_feedforward
    if not (descent.stable and moves):
        return dynamics
    return replace(dynamics, limits=dynamics.curvature(descent.nudge))


@dataclass(frozen=True, kw_only=True)
class NetworkDynamics(Dynamics):
    """Dynamics of the named values of a network and its outputs. A state holds their distances from a forward pass.

    Attributes:
        network: from `learning_network`.
        model_state: its collections.
        x: inputs.
        here: the network around the feed-forward pass.
        predicts_outputs: whether the outputs are an activity with a prediction, the last one; else they are a
            function of named values.
        clamps: the named values that enter the outputs directly.
        limits: curvature of F, which limits the steps of every activity; None for no limit.
    """

    network: Network
    model_state: PyTree
    x: PyTree
    here: Around
    predicts_outputs: bool
    clamps: tuple[str, ...]
    limits: Curvature | None = None

    # ---- activities and states

    @property
    def _origin(self) -> Activities:
        """The activities of a forward pass, in their own types."""
        return (*self.here.at.values(), *((self.here.outputs[0],) if self.predicts_outputs else ()))

    @property
    def shapes(self) -> Activities:
        """Shapes and types of the activities."""
        return jax.eval_shape(widened, self._origin)  # type: ignore[no-any-return]

    @property
    def settled_by_feedforward(self) -> bool:
        """Whether the activities of a forward pass minimize E exactly: they do if every name has one prediction."""
        return all(len(found) == 1 for found in self.here.base.values())

    def feedforward(self) -> Activities:
        """The activities of a forward pass."""
        return widened(self._origin)  # type: ignore[no-any-return]

    def state(self, activities: Activities) -> Activities:
        """Distances from a forward pass."""
        return subtract(activities, widened(self._origin))  # type: ignore[no-any-return]

    def activities(self, u: Activities) -> Activities:
        """The activities at these distances."""
        return add(widened(self._origin), u)  # type: ignore[no-any-return]

    def learned(self, params: PyTree) -> NetworkDynamics:
        """The same batch with other parameters."""
        return replace(self, params=params, here=Around(self.network.function, params, self.model_state, self.x))

    # ---- energy and forces

    def _seen(self, u: Activities) -> tuple[tuple[Errors, tuple[Any, ...]], jax.Array]:
        """``((errors of named values, errors of the outputs), change of the outputs)``, prediction minus activity."""
        deltas = dict(zip(self.here.at, u, strict=False))
        (change, _), predictions = self.here.changes(deltas)
        errors = errors_around(self.here, predictions, deltas)
        change = zeros(self.here.outputs[0]) if change is None else change
        return ((errors, (change - u[-1],)), u[-1]) if self.predicts_outputs else ((errors, ()), change)

    def _outputs_at(self, change: jax.Array) -> jax.Array:
        return widened(self.here.outputs[0]) + change  # type: ignore[no-any-return]

    def outputs(self, u: Activities) -> jax.Array:
        """The outputs, as the cost takes them."""
        return self._outputs_at(u[-1] if self.predicts_outputs else self._seen(u)[1])

    def total(self, u: Activities, beta: Any) -> Scalar:
        """F = E + beta C, mean over the batch; beta None for a free phase."""
        energy = 2 * half_square(self._seen(u)[0]) / batch_size(self.x)
        return energy if beta is None else energy + beta * self.mean_cost(u)

    def force(self, u: Activities, beta: Any) -> Activities:
        """dF/du of every example."""

        def nudge(change: jax.Array) -> jax.Array:
            assert self.cost is not None
            return beta * self.cost.gradient(self._outputs_at(change))

        return self._force(u, jnp.zeros_like if beta is None else nudge)

    def _force(self, u: Activities, nudge: Callable[[jax.Array], jax.Array]) -> Activities:
        """2 (d errors / du)' errors, with a pull at the outputs."""
        (errors, change), pull = jax.vjp(self._seen, u)
        return pull((jax.tree.map(lambda e: 2 * e, errors), nudge(change).astype(change.dtype)))[0]  # type: ignore[no-any-return]

    def _clamps(self) -> list[bool]:
        """For every activity, whether holding it fixed fixes the outputs."""
        names = [not self.predicts_outputs and name in self.clamps for name in self.here.at]
        return [*names, *([True] if self.predicts_outputs else [])]

    def clamped(self, u: Activities, beta: Any) -> Activities:
        """The outputs at ``o - beta dC/do``, or the activities that they are a function of at the same step."""
        assert self.cost is not None
        change, pull = jax.vjp(lambda u: self._seen(u)[1], u)
        pulled = pull(self.cost.gradient(self._outputs_at(change)).astype(change.dtype))[0]
        return tuple(v - beta * p if c else v for v, p, c in zip(u, pulled, self._clamps(), strict=True))

    def step(self, t: Scalar, u: Activities, beta: Any, clamped: bool = False) -> tuple[Activities, Activities]:
        """One step, and the forces that moved the activities, zero for those that stay."""
        force = self.force(u, None if clamped else beta)
        if clamped:
            force = tuple(0 * f if stays else f for f, stays in zip(force, self._clamps(), strict=True))
        rate = self.descent.rate(t)
        steps = (rate,) * len(u) if self.limits is None else self.limits.steps(rate)
        return tuple(v - jnp.asarray(r, v.dtype) * f for v, f, r in zip(u, force, steps, strict=True)), force

    def residual(self, forces: Activities) -> Scalar:
        """Norm of the force of every example, mean over the batch, summed over activities and turns of loops."""
        loops = (*self.network.loops.values(), 0)
        return sum((mean_norm(f, axis) for f, axis in zip(forces, loops, strict=False)), jnp.zeros(()))

    def scale(self, n: int) -> Scalar:
        """The smallest factor on the documented step over n steps."""
        return step_scale(self.descent.rate, n, self.limits)

    def curvature(self, nudge: Any) -> Curvature:
        """The curvature of F at the feed-forward pass, for a few examples.

        Args:
            nudge: curvature of the nudge, at the outputs.
        """
        rows = looked_at(batch_size(self.x))
        few = replace(self, x=jax.tree.map(lambda leaf: leaf[:rows], self.x)).learned(self.params)
        reverse = in_reverse_only(few.network, few.params, few.model_state, few.x)
        start = few.state(few.feedforward())
        return curvature_of_activities(
            lambda u: few._force(u, lambda change: nudge * change),
            start,
            self.descent.rate,
            self.descent.steps,
            rows,
            reverse=reverse,
        )

    # ---- gradients

    def contrast(self, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k w_k dE/dparams(u_k)``, mean over the batch."""

        def share(u: Activities, weight: Scalar) -> PyTree:
            found, _ = self._seen(u)
            factor = 2 * weight / batch_size(self.x)
            errors, top = jax.tree.map(lambda e: factor * e, found)
            top_error = top[0] if self.predicts_outputs else zeros(self.here.outputs[0])
            return gradients_at(self.network, *self._arguments, self._named(self.activities(u)), errors, top_error)

        if len(states) == 1:
            return share(states[0], weights[0])

        def summed(total: PyTree, one: tuple[Activities, Scalar]) -> tuple[PyTree, None]:
            return add(total, share(*one)), None

        stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *states)
        return jax.lax.scan(summed, jax.tree.map(jnp.zeros_like, self.params), (stacked, weights))[0]

    def linearized(self, u: Activities, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``(d^2 E / dtheta du)`` at u, times ``sum_k w_k (u_k - u)``, mean over the batch."""
        change = weighted_change(u, states, weights)

        def energy(params: PyTree, activities: Activities) -> Scalar:
            given = self._named(activities)
            (outputs, _), predictions = self.network((params, self.model_state), self.x, given)
            errors = list(errors_of(predictions, dict(zip(self.here.at, activities, strict=False))).values())
            top = [widened(outputs) - activities[-1]] if self.predicts_outputs else []
            return 2 * half_square((errors, top)) / batch_size(self.x)

        def slope(params: PyTree) -> Scalar:  # reverse mode twice: some functions have no forward mode
            uphill = jax.grad(energy, argnums=1)(params, self.activities(u))
            return sum((jnp.vdot(g, c) for g, c in zip(uphill, change, strict=True)), jnp.zeros(()))

        return jax.grad(slope)(self.params)

    @property
    def _arguments(self) -> tuple[PyTree, PyTree, PyTree]:
        return self.params, self.model_state, self.x

    def _named(self, activities: Activities) -> dict[str, jax.Array]:
        """The named ones among the activities, in their own types."""
        return like(dict(zip(self.here.at, activities, strict=False)), self.here.at)  # type: ignore[no-any-return]

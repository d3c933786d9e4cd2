"""Equilibrium propagation: dL/dtheta from the difference between activities at rest and activities nudged.

A free phase settles where dE/du = 0; a nudged one where dF/du = 0, F = E + beta C. Then for every beta

    (1/beta) [dE/dtheta (nudged) - dE/dtheta (free)]  =  d/dtheta [F(beta) - F(0)] / beta  ->  dL/dtheta,  beta -> 0

where the equality is exact and the limit holds to order beta: equations 3, 4 and 23 of Scellier and Bengio 2017,
doi:10.3389/fncom.2017.00024.

A batch passes through `EquilibriumRule` from top to bottom. The model becomes `Dynamics`, of layers in `chain` or of
named values in `network`, which runs the phases; nudges and weights of an estimator are in `estimators`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.chain import ChainDynamics, chain_dynamics
from neurai_algorithms.equilibrium.checks import (
    check_coordinates,
    check_elementwise,
    check_holomorphic,
    check_network,
    check_settings,
)
from neurai_algorithms.equilibrium.costs import Cost
from neurai_algorithms.equilibrium.energies import energy_of
from neurai_algorithms.equilibrium.estimators import Points, needed, points
from neurai_algorithms.equilibrium.network import NetworkDynamics, network_dynamics
from neurai_algorithms.equilibrium.network_errors import ErrorDynamics
from neurai_algorithms.equilibrium.phases import Descent, Dynamics, Settled
from neurai_algorithms.equilibrium.spec import CLAMPED, EPConfig, EPMode
from neurai_algorithms.predictive_coding.network_task import as_network
from neurai_core.adapting import adapt
from neurai_core.arrays import Elementwise, PyTree, Scalar, batch_size, normal
from neurai_core.energy import Activities, Energy
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, activation_function
from neurai_core.rule import Estimate, Rule, State, check_objective, loss_aux, model_state_of, objective, split_batch


def build(
    config: EPConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    activation: Elementwise | None = None,
    energy: Energy | None = None,
    activities: Activities | None = None,
    schedule: Callable[[Scalar], Scalar] | None = None,
    optimizer: Any = None,
    zeros: Callable[..., jax.Array] = jnp.zeros,
    **context: Any,
) -> Rule:
    """The rule "equilibrium propagation".

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``; it nudges the outputs.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        activation: an elementwise callable that replaces ``config.activation``.
        energy: an `Energy` that replaces ``config.energy``.
        activities: where free phases start; replaces ``config.init``.
        schedule: number of the step -> dt; replaces ``config.dt``.
        optimizer: optax optimizer that moves the weights in mode continual.
        zeros: ``(shape, dtype) -> array``, makes the activities of init zeros.
        **context: not used.

    Raises:
        SettingsError: settings that cannot work with this loss and energy.
        UnknownName: no activation or energy has that name.
        ModelError: the activation is not elementwise.
    """
    energy = energy_of(config.energy) if energy is None else energy
    given = activation if activation is not None else config.activation
    rho = None if given is None else activation_function(given)
    if rho is not None:
        check_elementwise(rho)
    init = (config.init or energy.default_init) if activities is None else "given"
    check_settings(config, loss, energy, init, schedule)
    check_coordinates(config, energy, rho)
    rule = EquilibriumRule(config, loss, accuracy, has_aux, rho, energy, init, activities, schedule, optimizer, zeros)
    return Rule(rule.start, rule.estimate, rule.predict)


class Free(NamedTuple):
    """The result of a free phase.

    Attributes:
        dynamics: dynamics of this batch.
        start: where it started.
        settled: where it ended.
        outputs: the outputs there.
    """

    dynamics: Dynamics
    start: Activities
    settled: Settled
    outputs: jax.Array

    def blown_up(self, nudged: Settled) -> Scalar:
        """Whether activities diverged in this phase or in those that followed it."""
        return self.settled.blown_up | nudged.blown_up


class Learned(NamedTuple):
    """The result of the nudged phases of a batch.

    Attributes:
        grads: mean over the batch.
        nudged: where the phases ended; of several, stacked.
        own: state that the rule carries on.
        aux: what is reported about the energy.
    """

    grads: PyTree
    nudged: Settled
    own: PyTree
    aux: dict[str, Any]


@dataclass(frozen=True)
class EquilibriumRule:
    """The three functions of the rule; the attributes are the arguments of `build`."""

    config: EPConfig
    loss: Callable[..., Any]
    accuracy: Callable[..., Any] | None
    has_aux: bool
    rho: Elementwise | None
    energy: Energy
    init: str
    activities: Activities | None
    schedule: Callable[[Scalar], Scalar] | None
    optimizer: Any
    zeros: Callable[..., jax.Array]

    def start(self, model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        """The carried state: activities with init persistent, the optimizer's state in mode continual."""
        if self.config.mode == EPMode.CONTINUAL and self.optimizer is not None:
            return State(model_state, self.optimizer.init(params))
        return State(model_state, ()) if self.init == "persistent" else model_state

    def estimate(
        self, model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        """Estimate gradients from one batch: a free phase, then nudged ones."""
        x, y = split_batch(batch)
        score, own = objective(self.loss, self.accuracy, self.has_aux), getattr(state, "own", ())
        cost = Cost(score, self.loss, y)
        keys = (None, None) if key is None else jax.random.split(jax.random.fold_in(key, 0x4550))
        dynamics, model_state = self._dynamics(model, params, x, model_state_of(state), cost, key)
        free = self._free(dynamics, own, keys[0])
        check_objective(score, free.outputs, y)
        continual = self.config.mode == EPMode.CONTINUAL
        learned = self._continual(free, own) if continual else self._contrast(free, keys[1])
        loss, extra = score.loss(free.outputs, y)
        blown_up = free.blown_up(learned.nudged)
        aux = loss_aux(extra) | learned.aux | self._report(free, learned.nudged) | {"blown_up": blown_up}
        scale = cost.scale(batch_size(x))
        grads = jax.tree.map(lambda g, p: (g if scale == 1 else scale * g).astype(p.dtype), learned.grads, params)
        loss = jnp.where(blown_up, jnp.nan, loss)
        carries = continual or self.init == "persistent"
        estimate = Estimate(grads, loss, score.accuracy(free.outputs, y), aux)
        return estimate, State(model_state, learned.own) if carries else model_state

    def predict(self, model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
        """The outputs at the end of a free phase."""
        init = self.init if self.init in ("zeros", "feedforward") else self.energy.default_init
        if self.energy.settled_by_feedforward:
            init = "feedforward"
        alone = replace(self, init=init, activities=None)
        dynamics, _ = alone._dynamics(model, params, x, model_state_of(state), None, None)
        return alone._free(dynamics, (), None).outputs

    # ---- the batch

    def _dynamics(
        self, model: Any, params: PyTree, x: PyTree, model_state: PyTree, cost: Cost | None, key: Any
    ) -> tuple[Dynamics, PyTree]:
        """The dynamics of a batch, and the collections after it; in evaluation mode without a cost."""
        model = adapt(model, needs="network").model
        in_errors = self.config.coordinates == "errors" and not (isinstance(model, Layered) and len(model) == 1)
        if in_errors or not isinstance(model, Layered):
            check_network(self.config, self.energy, self.rho, model)
            kind = ErrorDynamics if in_errors else NetworkDynamics
            network, descent = as_network(model), self._descent(True)
            on_network = network_dynamics(network, params, x, model_state, cost, key, descent, kind)
            return on_network, on_network.here.outputs[1]
        moves = cost is not None or not (self.energy.settled_by_feedforward and self.init == "feedforward")
        descent = self._descent(moves)
        on_layers = chain_dynamics(
            model, params, x, model_state, cost, key, descent, self.energy, self.rho, self.config.fuse
        )
        if cost is not None and any(layer.stateful for layer in model.layers):
            model_state = model.apply(on_layers.params, model_state, on_layers.chain.x, key=key, train=True)[1]
        return on_layers, model_state

    def _descent(self, moves: bool) -> Descent:
        """The settings of a step; costs have curvature 1 at most, which the nudge adds at the outputs."""
        config = self.config
        return Descent(
            rate=lambda t: (config.dt if self.schedule is None else self.schedule(t)) / config.tau,
            steps=max(config.n_relax, config.n_nudged or 0),
            stable=config.stable and moves,
            nudge=0.0 if config.mode in CLAMPED else jnp.abs(jnp.asarray(config.beta)),
            tol=config.tol,
            check_every=config.check_every,
            even_odd=config.order == "even_odd",
        )

    # ---- the free phase

    def _free(self, dynamics: Dynamics, own: PyTree, key: Any) -> Free:
        start = dynamics.state(dynamics.project(self._begin(dynamics, own, key)))
        if self._begins_at_rest(dynamics):
            settled = Settled(start, jnp.asarray(0), jnp.zeros((), start[0].dtype), {})
        else:
            run = dynamics.traced if self.config.trace else dynamics.settle
            settled = run(start, None, self.config.n_relax)
        return Free(dynamics, start, settled, dynamics.outputs(settled.u))

    def _begins_at_rest(self, dynamics: Dynamics) -> bool:
        """Whether free phases start where E = dE/dtheta = 0 and are skipped."""
        return dynamics.settled_by_feedforward and self.init == "feedforward"

    def _begin(self, dynamics: Dynamics, own: PyTree, key: Any) -> Activities:
        """The activities of ``init``."""
        shapes = dynamics.shapes
        if self.init == "given":
            return _fitting(self.activities, shapes)
        if self.init == "persistent" and _same_shapes(own, shapes):
            return own
        if self.init == "feedforward" or (self.init == "persistent" and self.energy.settled_by_feedforward):
            return dynamics.feedforward()
        if self.init == "normal":
            keys = jax.random.split(needed(key, "init normal draws activities"), len(shapes))
            return tuple(normal(k, s.shape, s.dtype) for k, s in zip(keys, shapes, strict=True))
        return tuple(self.zeros(shape.shape, dtype=shape.dtype) for shape in shapes)

    # ---- nudged phases, and their contrast

    def _contrast(self, free: Free, key: Any) -> Learned:
        dynamics, rests = free.dynamics, self._begins_at_rest(free.dynamics)
        chosen = self._points(free, key)
        nudged = self._nudged(free, chosen)
        blown_up = free.blown_up(nudged)
        weights = chosen.weights
        states = [tuple(layer[k] for layer in nudged.u) for k in range(len(weights))]
        # A free state at rest has dE/dtheta = 0 and adds nothing to the contrast.
        if chosen.free_weight is not None and (self.config.linearized or not rests):
            weights = jnp.append(weights, chosen.free_weight)
            states.append(free.settled.u)
        weights = jnp.where(blown_up, 0, weights)  # a diverged batch moves no parameter
        if self.config.linearized:
            grads = dynamics.linearized(free.settled.u, states, weights)
        else:
            grads = dynamics.contrast(states, weights)
        if self.energy.readout:
            assert isinstance(dynamics, ChainDynamics)
            share = dynamics.readout(nudged.u[-1], chosen.weights * chosen.betas)
            grads = jax.tree.map(jnp.add, grads, share)
        energy = dynamics.total(states[0], None if chosen.clamped else chosen.betas[0])
        energy = jnp.where(blown_up, jnp.nan, energy)
        aux: dict[str, Any] = {"energy": energy}
        if not chosen.clamped:
            # The barrier keeps the compiler from evaluating the zeros at compile time.
            start = jax.lax.optimization_barrier(free.start)
            began = jnp.zeros_like(energy) if rests else dynamics.total(start, None)
            aux["energy_change"] = energy - began - chosen.betas[0].real * dynamics.mean_cost(free.settled.u)
        if self.config.trace:
            aux["energy_trace"] = nudged.trace["energy"][0]
            aux["trace"] = {"free": free.settled.trace, "nudged": nudged.trace}
        return Learned(grads, nudged, dynamics.activities(free.settled.u), aux)

    def _points(self, free: Free, key: Any) -> Points:
        """Nudges and weights in the type of the activities, complex where mode holomorphic needs it."""
        chosen = points(self.config, key)
        if self.config.mode == EPMode.HOLOMORPHIC:
            assert isinstance(free.dynamics, ChainDynamics) and free.dynamics.cost is not None
            check_holomorphic(free.dynamics.chain.blocks, free.dynamics.cost, free.outputs)
        dtype = free.settled.u[0].dtype
        kind = jnp.result_type(dtype, jnp.complex64) if jnp.iscomplexobj(chosen.betas) else dtype
        return chosen._replace(betas=chosen.betas.astype(kind), weights=chosen.weights.astype(kind))

    def _nudged(self, free: Free, chosen: Points) -> Settled:
        """Run all nudged phases from the free state, one after another, and stack them; compiled once."""
        dynamics, n = free.dynamics, self.config.n_nudged or self.config.n_relax
        run = dynamics.traced if self.config.trace else dynamics.settle
        u = tuple(v.astype(chosen.betas.dtype) for v in free.settled.u)

        def phase(beta: jax.Array) -> Settled:
            start = dynamics.clamped(u, beta) if chosen.clamped else u
            return run(start, beta, n, chosen.clamped)

        if len(chosen.betas) == 1:
            return jax.tree.map(lambda leaf: leaf[None], phase(chosen.betas[0]))
        return jax.lax.map(phase, chosen.betas)

    # ---- mode continual: weights move during the nudged phase

    def _continual(self, free: Free, opt_state: PyTree) -> Learned:
        """Let the optimizer move the weights at every nudged step; gradients are summed over the steps."""
        if self.optimizer is None:
            raise UsageError(
                "EP: mode continual moves the weights during the nudged phase, but got no optimizer.",
                hint="Pass them: get_grads(model, param, batch, optim, opt_state).",
            )
        dynamics = free.dynamics
        beta = jnp.asarray(self.config.beta, free.settled.u[0].dtype)
        weights = jnp.stack([1 / beta, -1 / beta])

        def step(carry: Any, t: Scalar) -> tuple[Any, Scalar]:
            activities, params, opt_state, total = carry
            moving = dynamics.learned(params)
            u = moving.state(activities)
            after, force = moving.step(t, u, beta)
            grads = moving.contrast([after, u], weights)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            params = jax.tree.map(jnp.add, params, updates)
            total = jax.tree.map(jnp.add, total, grads)
            return (moving.activities(after), params, opt_state, total), moving.residual(force)

        n, params = self.config.n_nudged or self.config.n_relax, dynamics.params
        start = dynamics.activities(free.settled.u), params, opt_state, jax.tree.map(jnp.zeros_like, params)
        (activities, moved, opt_state, total), residuals = jax.lax.scan(step, start, jnp.arange(n))
        u = dynamics.state(activities)
        nudged = Settled(u, jnp.asarray(n), jnp.max(residuals), {})
        total = jax.tree.map(lambda g: jnp.where(free.blown_up(nudged), 0, g), total)
        return Learned(total, nudged, opt_state, {"energy": dynamics.total(u, beta), "params": moved})

    # ---- report

    def _report(self, free: Free, nudged: Settled) -> dict[str, Any]:
        return {
            "step_scale": free.dynamics.scale(free.dynamics.descent.steps),
            "residual": jnp.max(nudged.residual),
            "residual_free": free.settled.residual,
            "steps_free": free.settled.steps,
            "steps_nudged": jnp.max(nudged.steps),
        }


def _fitting(activities: Any, shapes: Activities) -> Activities:
    """The given activities, in the types of this batch's."""
    if not _same_shapes(activities, shapes):
        given = [jnp.shape(v) for v in activities]
        raise ModelError(
            f"EP: init has activities of shapes {given}, expected {[shape.shape for shape in shapes]}.",
            hint="One array per block, (u_1, ..., u_L), batch axis first.",
        )
    return tuple(jnp.asarray(v, shape.dtype) for v, shape in zip(activities, shapes, strict=True))


def _same_shapes(activities: Any, shapes: Activities) -> bool:
    return [jnp.shape(v) for v in activities] == [shape.shape for shape in shapes]

"""Equilibrium propagation: dL/dtheta from the difference between activities at rest and activities nudged.

A free phase settles where dE/du = 0; a nudged one where dF/du = 0, F = E + beta C. Then for every beta

    (1/beta) [dE/dtheta (nudged) - dE/dtheta (free)]  =  d/dtheta [F(beta) - F(0)] / beta  ->  dL/dtheta,  beta -> 0

exactly at the left, to order beta at the right. Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024.
Energies are in `energies`, estimators in `estimators`, the dynamics in `phases`,
those of networks of named values in `network`, the documented class in `api`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.costs import SQUARED, Cost, check_elementwise, check_holomorphic
from neurai_algorithms.equilibrium.energies import energy_of
from neurai_algorithms.equilibrium.estimators import Points, needed, points
from neurai_algorithms.equilibrium.network import check_network, network_dynamics
from neurai_algorithms.equilibrium.phases import ChainDynamics, Dynamics, Settled
from neurai_algorithms.equilibrium.spec import ONE_SIDED, EPConfig, EPMode
from neurai_core.adapting import adapt
from neurai_core.arrays import Elementwise, PyTree, Scalar, batch_size, normal
from neurai_core.curvature import SAFE
from neurai_core.energy import Activities, Chain, Energy, chain_of
from neurai_core.errors import ModelError, SettingsError, UsageError
from neurai_core.layered import Layered, activation_function
from neurai_core.rule import Estimate, Rule, State, check_objective, loss_aux, model_state_of, objective, split_batch

DRIFT = 1e-2  # share of the distance from rest that a free phase may keep before one-sided estimates suffer


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
        activation: an elementwise callable in place of ``config.activation``.
        energy: an `Energy` in place of ``config.energy``.
        activities: where free phases start, in place of ``config.init``.
        schedule: number of the step -> dt, in place of ``config.dt``.
        optimizer: of optax; moves the weights in mode continual.
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
    machine = _Machine(config, loss, accuracy, has_aux, rho, energy, init, activities, schedule, optimizer, zeros)
    return Rule(machine.init_state, machine.estimate, machine.predict)


def check_settings(
    config: EPConfig,
    loss: Callable[..., Any],
    energy: Energy,
    init: str,
    schedule: Callable[[Scalar], Scalar] | None = None,
) -> None:
    """Refuse settings that cannot work and warn of those that do not learn; traced numbers pass.

    Raises:
        SettingsError: a branch of the nudge has no energy minimum.

    >>> from neurai_core.losses import squared_error
    >>> check_settings(EPConfig(energy="hopfield", dt=0.5), squared_error, energy_of("hopfield"), "zeros")
    """
    if energy.activation_last and loss in SQUARED and isinstance(config.beta, float) and _lowest(config) <= -1:
        raise SettingsError(
            f"beta: mode {config.mode} with beta={config.beta:g} nudges by {_lowest(config):g}, and with the squared "
            "error the energy 'hopfield' has no minimum at -1 and below.",
            "Use a beta between 0.1 and 0.5.",
        )
    skipped = energy.settled_by_feedforward and init == "feedforward"
    fixed = isinstance(config.dt, float) and isinstance(config.tau, float) and schedule is None
    if config.mode not in ONE_SIDED or skipped or not fixed:
        return
    kept = abs(1 - config.dt / config.tau) ** config.n_relax
    if kept > DRIFT:
        warnings.warn(
            f"EP: after n_relax={config.n_relax} steps of dt/tau={config.dt / config.tau:g} a free phase keeps about "
            f"{kept:.0%} of its distance from rest, and mode {config.mode} divides that drift by beta. Use "
            "dt=0.5, or mode='symmetric' or 'two_phase_matched', in which it cancels.",
            stacklevel=4,
        )


def _lowest(config: EPConfig) -> float:
    """The most negative real nudge."""
    strength = abs(config.beta)
    if config.mode in (EPMode.SYMMETRIC, EPMode.RICHARDSON, EPMode.RANDOM_SIGN):
        return -strength
    if config.mode == EPMode.HOLOMORPHIC and config.n_points % 2 == 0:
        return -strength
    return config.beta if config.mode not in (EPMode.COUPLED, EPMode.CONTRASTIVE) else 0.0


class _Free(NamedTuple):
    """A free phase and what goes on from it.

    Attributes:
        dynamics: of this batch.
        start: where it started.
        settled: where it ended.
        outputs: there.
    """

    dynamics: Dynamics
    start: Activities
    settled: Settled
    outputs: jax.Array


@dataclass(frozen=True)
class _Machine:
    """The three functions of the rule."""

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

    # ---- the rule

    def init_state(self, model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        if self.config.mode == EPMode.CONTINUAL and self.optimizer is not None:
            return State(model_state, self.optimizer.init(params))
        return State(model_state, ()) if self.init == "persistent" else model_state

    def estimate(
        self, model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)
        model = adapt(model, needs="network").model
        score = objective(self.loss, self.accuracy, self.has_aux)
        cost = Cost(score, self.loss, y)
        keys = (None, None) if key is None else jax.random.split(jax.random.fold_in(key, 0x4550))
        dynamics, model_state = self._dynamics(model, params, x, model_state_of(state), cost, key)
        free = self._free(dynamics, getattr(state, "own", ()), keys[0])
        check_objective(score, free.outputs, y)
        if self.config.mode == EPMode.CONTINUAL:
            grads, nudged, own, aux = self._continual(free, getattr(state, "own", ()))
        else:
            grads, nudged, aux = self._contrast(free, keys[1])
            own = dynamics.activities(free.settled.u)
        loss, extra = score.loss(free.outputs, y)
        blown_up = _blown_up(free, nudged)
        aux = loss_aux(extra) | aux | _report(free, nudged, self._longest) | {"blown_up": blown_up}
        scale = cost.scale(batch_size(x))
        grads = jax.tree.map(lambda g, p: (g if scale == 1 else scale * g).astype(p.dtype), grads, params)
        loss = jnp.where(blown_up, jnp.nan, loss)
        estimate = Estimate(grads, loss, score.accuracy(free.outputs, y), aux)
        carries = self.init == "persistent" or self.config.mode == EPMode.CONTINUAL
        return estimate, State(model_state, own) if carries else model_state

    def predict(self, model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
        model = adapt(model, needs="network").model
        init = self.init if self.init in ("zeros", "feedforward") else self.energy.default_init
        if self.energy.settled_by_feedforward:
            init = "feedforward"
        resting = replace(self, init=init, activities=None)
        dynamics, _ = resting._dynamics(model, params, x, model_state_of(state), None, None)
        return resting._free(dynamics, (), None).outputs

    # ---- its parts

    @property
    def _longest(self) -> int:
        """Steps of the longest phase."""
        return max(self.config.n_relax, self.config.n_nudged or 0)

    def _begins_at_rest(self, dynamics: Dynamics) -> bool:
        """Whether free phases start where E = dE/dtheta = 0 and are skipped."""
        return dynamics.settled_by_feedforward and self.init == "feedforward"

    def _dynamics(
        self, model: Any, params: PyTree, x: PyTree, model_state: PyTree, cost: Cost | None, key: Any
    ) -> tuple[Dynamics, PyTree]:
        """How the activities of a batch move, and the collections after it; without a cost in evaluation mode."""
        if isinstance(model, Layered):
            return self._on_layers(model, params, x, model_state, cost, key)
        check_network(self.config, self.energy, self.rho, model)
        dynamics = network_dynamics(
            model,
            params,
            x,
            model_state,
            cost,
            key,
            dt=self._step_size,
            stable=self.config.stable,
            nudge=self._nudge,
            tol=self.config.tol,
            check_every=self.config.check_every,
        )
        return dynamics, dynamics.here.outputs[1]

    def _on_layers(
        self, model: Layered, params: PyTree, x: PyTree, model_state: PyTree, cost: Cost | None, key: Any
    ) -> tuple[Dynamics, PyTree]:
        params, x = _working(model, params, x)
        learns = cost is not None
        chain = chain_of(
            model,
            params,
            x,
            model_state=model_state,
            key=key,
            train=learns,
            activation=self.rho,
            activation_last=self.energy.activation_last,
        )
        self.energy.check(chain)
        drive = chain.drive(params)
        moves = learns or not (self.energy.settled_by_feedforward and self.init == "feedforward")
        dynamics = ChainDynamics(
            energy=self.energy,
            chain=chain,
            params=params,
            drive=drive,
            cost=cost,
            rate=lambda t: jnp.asarray(self._step_size(t), drive.dtype),
            limit=self._limit(chain, params, drive.dtype) if moves else None,
            even_odd=self.config.order == "even_odd",
            tol=self.config.tol,
            check_every=self.config.check_every,
        )
        if learns and any(layer.stateful for layer in model.layers):
            model_state = model.apply(params, model_state, x, key=key, train=True)[1]
        return dynamics, model_state

    def _free(self, dynamics: Dynamics, own: PyTree, key: Any) -> _Free:
        config = self.config
        start = dynamics.state(dynamics.project(self._start(dynamics, own, key)))
        if self._begins_at_rest(dynamics):
            settled = Settled(start, jnp.asarray(0), jnp.zeros((), start[0].dtype), {})
        elif config.trace:
            settled = dynamics.traced(start, None, config.n_relax)
        else:
            settled = dynamics.settle(start, None, config.n_relax)
        return _Free(dynamics, start, settled, dynamics.outputs(settled.u))

    def _step_size(self, t: Scalar) -> Any:
        """dt / tau of a step."""
        return (self.config.dt if self.schedule is None else self.schedule(t)) / self.config.tau

    def _limit(self, chain: Chain, params: PyTree, dtype: Any) -> Scalar | None:
        """The largest stable dt / tau."""
        if not self.config.stable:
            return None
        nudge = jnp.asarray(self._nudge, dtype)
        return SAFE / self.energy.curvature(chain, params, nudge, self.config.order == "even_odd")

    @property
    def _nudge(self) -> Any:
        """What nudging adds to the curvature of the outputs: costs bend by 1 at most."""
        clamped = self.config.mode in (EPMode.COUPLED, EPMode.CONTRASTIVE)
        return 0.0 if clamped else jnp.abs(jnp.asarray(self.config.beta))

    def _start(self, dynamics: Dynamics, own: PyTree, key: Any) -> Activities:
        shapes = dynamics.shapes
        if self.init == "given":
            return _checked(self.activities, shapes)
        if self.init == "persistent" and _same_shapes(own, shapes):
            return own
        if self.init == "feedforward" or (self.init == "persistent" and self.energy.settled_by_feedforward):
            return dynamics.feedforward()
        if self.init == "normal":
            keys = jax.random.split(needed(key, "init normal draws activities"), len(shapes))
            return tuple(normal(k, s.shape, s.dtype) for k, s in zip(keys, shapes, strict=True))
        return tuple(self.zeros(shape.shape, dtype=shape.dtype) for shape in shapes)

    def _contrast(self, free: _Free, key: Any) -> tuple[PyTree, Settled, dict[str, Any]]:
        """Gradients, the nudged phases (stacked) and what to report."""
        dynamics, rests = free.dynamics, self._begins_at_rest(free.dynamics)
        chosen = self._points(free, key)
        nudged = self._nudged(free, chosen)
        blown_up = _blown_up(free, nudged)
        weights = chosen.weights
        states = [tuple(layer[k] for layer in nudged.u) for k in range(len(weights))]
        if chosen.free_weight is not None and (self.config.linearized or not rests):
            weights = jnp.append(weights, chosen.free_weight)
            states.append(free.settled.u)
        weights = jnp.where(blown_up, 0, weights)
        if self.config.linearized:
            grads = dynamics.linearized(free.settled.u, states, weights)
        else:
            grads = dynamics.contrast(states, weights)
        if self.energy.readout:
            assert isinstance(dynamics, ChainDynamics)
            grads = jax.tree.map(jnp.add, grads, _readout(dynamics, nudged.u[-1], chosen))
        energy = dynamics.total(states[0], None if chosen.clamped else chosen.betas[0])
        energy = jnp.where(blown_up, jnp.nan, energy)
        aux: dict[str, Any] = {"energy": energy}
        if not chosen.clamped:
            # The barrier: else what zeros give is computed while compiling.
            start = jax.lax.optimization_barrier(free.start)
            began = jnp.zeros_like(energy) if rests else dynamics.total(start, None)
            aux["energy_change"] = energy - began - chosen.betas[0].real * dynamics.mean_cost(free.settled.u)
        if self.config.trace:
            aux |= {
                "energy_trace": nudged.trace["energy"][0],
                "trace": {"free": free.settled.trace, "nudged": nudged.trace},
            }
        return grads, nudged, aux

    def _points(self, free: _Free, key: Any) -> Points:
        """Nudges and weights in the type of the activities, complex where mode holomorphic needs it."""
        chosen = points(self.config, key)
        if self.config.mode == EPMode.HOLOMORPHIC:
            assert isinstance(free.dynamics, ChainDynamics) and free.dynamics.cost is not None
            rhos = [block.rho for block in free.dynamics.chain.blocks]
            check_holomorphic(rhos, free.dynamics.cost, free.outputs)
        dtype = free.settled.u[0].dtype
        kind = jnp.result_type(dtype, jnp.complex64) if jnp.iscomplexobj(chosen.betas) else dtype
        return chosen._replace(betas=chosen.betas.astype(kind), weights=chosen.weights.astype(kind))

    def _nudged(self, free: _Free, chosen: Points) -> Settled:
        """All nudged phases, one after the other from the free state, stacked; compiled once."""
        dynamics, n = free.dynamics, self.config.n_nudged or self.config.n_relax
        run = dynamics.traced if self.config.trace else dynamics.settle
        u = tuple(v.astype(chosen.betas.dtype) for v in free.settled.u)

        def phase(beta: jax.Array) -> Settled:
            start = dynamics.clamped(u, beta) if chosen.clamped else u
            return run(start, beta, n, chosen.clamped)

        if len(chosen.betas) == 1:
            return jax.tree.map(lambda leaf: leaf[None], phase(chosen.betas[0]))
        return jax.lax.map(phase, chosen.betas)

    def _continual(self, free: _Free, opt_state: PyTree) -> tuple[PyTree, Settled, PyTree, dict[str, Any]]:
        """Weights move by the optimizer at every nudged step; the gradients of all steps add up."""
        if self.optimizer is None:
            raise UsageError(
                "EP: mode continual moves the weights during the nudged phase and got no optimizer.",
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
        settled = Settled(u, jnp.asarray(n), jnp.max(residuals), {})
        total = jax.tree.map(lambda g: jnp.where(_blown_up(free, settled), 0, g), total)
        return total, settled, opt_state, {"energy": dynamics.total(u, beta), "params": moved}


# ---------------------------------------------------------------------------- helpers


def _working(model: Layered, params: PyTree, x: jax.Array) -> tuple[PyTree, jax.Array]:
    """Parameters and inputs in the type of the activities: float32 at least, whatever the parameters are."""
    x = model.inputs(params, x)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves((params, x)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    dtype = jnp.result_type(jnp.float32, *dtypes)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return params, x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _checked(activities: Any, shapes: Activities) -> Activities:
    if not _same_shapes(activities, shapes):
        given = [jnp.shape(v) for v in activities]
        raise ModelError(
            f"EP: init has activities of shapes {given}, expected {[shape.shape for shape in shapes]}.",
            hint="One array per block, (u_1, ..., u_L), batch axis first.",
        )
    return tuple(jnp.asarray(v, shape.dtype) for v, shape in zip(activities, shapes, strict=True))


def _same_shapes(activities: Any, shapes: Activities) -> bool:
    return [jnp.shape(v) for v in activities] == [shape.shape for shape in shapes]


def _report(free: _Free, nudged: Settled, n: int) -> dict[str, Any]:
    return {
        "step_scale": free.dynamics.scale(n),
        "residual": jnp.max(nudged.residual),
        "residual_free": free.settled.residual,
        "steps_free": free.settled.steps,
        "steps_nudged": jnp.max(nudged.steps),
    }


def _blown_up(free: _Free, nudged: Settled) -> Scalar:
    return free.settled.blown_up | nudged.blown_up


def _readout(dynamics: ChainDynamics, tops: jax.Array, chosen: Points) -> PyTree:
    """``sum_k Re(w_k beta_k dC/dparams(u_k))``: the cost's own share, where the readout has parameters."""
    cost = dynamics.cost
    assert cost is not None

    def share(params: PyTree) -> Scalar:
        outputs = jax.vmap(lambda top: dynamics.energy.outputs(dynamics.chain, params, top))(tops)
        pulls = jax.lax.stop_gradient(jax.vmap(cost.gradient)(outputs))
        scores = jax.vmap(lambda pull, o: jnp.sum(pull * o))(pulls, outputs)
        return jnp.real(jnp.sum(chosen.weights * chosen.betas * scores)) / len(dynamics.chain.x)

    return jax.grad(share)(dynamics.params)

r"""Descent on the energy of a network that predicts in both directions.

    F = a_f [ loss_f(f_L(v_{L-1}), y) + p/2 sum_{0<l<L} |f_l(v_{l-1}) - v_l|^2 ]
      + a_b [ loss_b(g_1(v_1), x)     + 1/2 sum_{0<l<L} |g_{l+1}(v_{l+1}) - v_l|^2 / m_l ] ,   v_0 = x, v_L = y
    with p = m_l = 1:
    ef_l = f_l(v_{l-1}) - v_l, ef_L = dloss_f ;   eb_l = g_{l+1}(v_{l+1}) - v_l, eb_0 = dloss_b
    v_l <- v_l + eta [ a_f (ef_l - Jf_{l+1}^T ef_{l+1}) + a_b (eb_l - Jg_l^T eb_{l-1}) ]   for all l at once

with precision p and m_l positions, both 1 unless the settings or `BiPCConfig.for_inputs` say otherwise. The quantity
minimized is F/p, with losses scaled by 1/p and downward errors by 1/(p m_l).

The downward direction is the upward direction of the reversed network, so the same code handles both. As in strict
predictive coding, the state is the distance of the activities from their start, errors are the initial errors plus
changes, and gradients take their inputs after the last move and their errors before it.

If one direction has weight 0 and the other 1, only strict predictive coding is left, of the network or of its reverse,
and that is what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from neurai_algorithms.bidirectional.spec import BiPCConfig
from neurai_algorithms.differences import Around, add, around, like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.strict import strict
from neurai_algorithms.predictive_coding.task import Solution, Task, half_square
from neurai_algorithms.residuals import appended
from neurai_algorithms.stable_step import curvature_of, limited, looked_at, step_scale
from neurai_core.arrays import PyTree, Scalar, batch_size, tree_scale
from neurai_core.optax_texts import made
from neurai_core.relaxation import relax

POWER_STEPS = 8  # of the power iteration behind a curvature; a step size needs no more than some percent

Activities = tuple[PyTree, ...]


class BothWays(NamedTuple):
    """One batch for one two-way network.

    Attributes:
        up: layers f_1..f_L from x, targets y.
        down: layers g_L..g_1 from the label end v_L, targets x.
        config: settings.
        hidden_down: weights of the downward errors of v_1..v_{L-1}, beside alpha_b; None for 1.
    """

    up: Task
    down: Task
    config: BiPCConfig
    hidden_down: tuple[Any, ...] | None = None


class SolutionBoth(NamedTuple):
    """Result of a relaxation; ``up`` or ``down`` is None if only the other direction ran.

    Attributes:
        grads: in the structure of the two-way params and the scale of the user's losses.
        up: result of the upward direction.
        down: result of the downward direction, its layers from the top.
        energy: F where the errors were taken.
        energy_change: of all sweeps but the last.
        step_scale: what the documented step was multiplied by.
        trace: energy and residual before every sweep and at the end; None unless requested.
    """

    grads: PyTree
    up: Solution | None
    down: Solution | None
    energy: Any
    energy_change: Any
    step_scale: Any
    trace: Any


def relaxed_both(task: BothWays) -> SolutionBoth:
    """Relax, then learn: the gradients of bidirectional predictive coding."""
    alpha_f, alpha_b = task.config.weights
    if known_to_be(alpha_b, 0) and known_to_be(alpha_f, 1):
        found = strict(replace(task.up, config=_one_way(task)))
        return SolutionBoth(found.grads, found, None, found.energy, found.energy_change, found.step_scale, found.trace)
    if known_to_be(alpha_f, 0) and known_to_be(alpha_b, 1) and task.hidden_down is None:
        found = strict(replace(task.down, config=_one_way(task)))
        return SolutionBoth(
            found.grads[::-1], None, found, found.energy, found.energy_change, found.step_scale, found.trace
        )
    return _both(task)


def known_to_be(alpha: Any, number: int) -> bool:
    """Whether a weight is known to equal a number; a traced weight is never known."""
    return isinstance(alpha, int | float) and alpha == number


def _one_way(task: BothWays) -> PCConfig:
    """The settings as those of strict predictive coding."""
    config, trace = task.config, task.config.eta_trace
    eta, corrector = (config.eta, None) if trace is None else (config.eta, state_step(task, hidden_curvatures(task)))
    kept = {name: getattr(config, name) for name in ("n", "fresh", "stable", "energy_trace")}
    return task.up.config.model_copy(update={**kept, "eta": eta, "corrector": corrector})


# ---------------------------------------------------------------------------- one direction


class Way(NamedTuple):
    """One direction, expressed around the initial activities.

    Attributes:
        task: its layers, clamped input and loss.
        sites: every layer around the activity that it starts from.
        base: initial errors of the hidden activities; None for exact zeros.
        weights: of the hidden errors in the energy; None for 1.
    """

    task: Task
    sites: tuple[Around, ...]
    base: tuple[PyTree, ...]
    weights: tuple[Any, ...] | None = None

    def errors(self, deltas: Activities, changes: list[PyTree]) -> tuple[PyTree, ...]:
        """Prediction minus activity, and the derivative of the loss at the end."""
        hidden = (
            subtract(change, d) if base is None else add(base, subtract(change, d))
            for base, change, d in zip(self.base, changes[:-1], deltas, strict=True)
        )
        return (*hidden, jax.grad(self.task.scaled_loss)(self.end(changes)))

    def changes(self, deltas: Activities) -> list[PyTree]:
        """Change of every prediction since the start; the first one, from a clamped input, has none."""
        moved = (site.change(d) for site, d in zip(self.sites[1:], deltas, strict=True))
        return [zeros(self.sites[0].output), *moved]

    def end(self, changes: list[PyTree]) -> PyTree:
        """The prediction of the clamped end."""
        return add(widened(self.sites[-1].output), changes[-1])

    def look(self, deltas: Activities) -> tuple[tuple[PyTree, ...], Activities]:
        """Errors, and minus the gradient of this direction's energy with respect to the hidden activities."""
        seen = [site.pull(d) for site, d in zip(self.sites[1:], deltas, strict=True)]
        errors = self.errors(deltas, [zeros(self.sites[0].output), *(change for change, _ in seen)])
        pulls = self.weighed(errors)
        back = [pull(e) for (_, pull), e in zip(seen, pulls[1:], strict=True)]
        return errors, tuple(subtract(e, b) for e, b in zip(pulls[:-1], back, strict=True))

    def weighed(self, errors: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """The errors, weighted as in the energy."""
        if self.weights is None:
            return errors
        return tuple(tree_scale(e, w) for e, w in zip(errors, (*self.weights, 1.0), strict=True))

    def energy(self, deltas: Activities) -> Scalar:
        """This direction's part of F, without its weight."""
        changes = self.changes(deltas)
        return self.task.scaled_loss(self.end(changes)) + self._hidden_energy(self.errors(deltas, changes)[:-1])

    def start_energy(self) -> Scalar:
        """The same at the start, where nothing needs to be recomputed."""
        return self.task.scaled_loss(widened(self.sites[-1].output)) + self._hidden_energy(self.base)

    def _hidden_energy(self, errors: tuple[PyTree, ...]) -> Any:
        if self.weights is None:
            return sum(half_square(e) for e in errors if e is not None)
        return sum(w * half_square(e) for w, e in zip(self.weights, errors, strict=True) if e is not None)

    def gradients(self, start: Activities, deltas: Activities, errors: tuple[PyTree, ...]) -> PyTree:
        """Each layer's own: (df_l/dtheta_l at v_{l-1})^T eps_l."""
        inputs = [self.task.x, *(like(add(widened(v), d), v) for v, d in zip(start, deltas, strict=True))]
        return tuple(
            self.task.own_gradient(index, v, site.output, e)
            for index, (v, site, e) in enumerate(zip(inputs, self.sites, self.weighed(errors), strict=True))
        )


def _sites(task: Task, start: Activities) -> tuple[Around, ...]:
    """Every layer around given activities."""
    inputs = (task.x, *start)
    return tuple(
        around(layer, params, (), v) for layer, params, v in zip(task.model.layers, task.params, inputs, strict=True)
    )


def _base(sites: tuple[Around, ...], start: Activities) -> tuple[PyTree, ...]:
    return tuple(subtract(widened(s.output), widened(v)) for s, v in zip(sites, start, strict=False))


# ---------------------------------------------------------------------------- both


def _begin(task: BothWays) -> tuple[Way, Way, Activities]:
    """Both directions around the activities of the upward sweep, or of the downward one if nothing predicts upward."""
    weights = None if task.hidden_down is None else task.hidden_down[::-1]
    if known_to_be(task.config.weights[0], 0):
        down = task.down.expanded(task.down.x)
        start = tuple(site.output for site in down[:-1])[::-1]
        up = _sites(task.up, start)
        none = (None,) * len(start)
        return Way(task.up, up, _base(up, start)), Way(task.down, down, none, weights), start
    up = task.up.expanded(task.up.x)
    start = tuple(site.output for site in up[:-1])
    down = _sites(task.down, start[::-1])
    below = Way(task.down, down, _base(down, start[::-1]), weights)
    return Way(task.up, up, (None,) * len(start)), below, start


def _both(task: BothWays) -> SolutionBoth:
    up, down, start = _begin(task)
    curvature = _curvature(task, up, down)
    transformation = state_step(task, hidden_curvatures(task), curvature)
    weighed = _weighed(task)

    def move(deltas: Activities, carry: PyTree, uphill: Activities) -> tuple[Activities, PyTree]:
        updates, carry = transformation.update(uphill, carry, add(widened(start), deltas))
        return add(deltas, updates), carry

    def uphill(one: Activities, other: Activities) -> Activities:
        return jax.tree.map(jnp.negative, weighed(one, other[::-1]))

    def uphill_at(deltas: Activities) -> Activities:
        return uphill(up.look(deltas)[1], down.look(deltas[::-1])[1])

    def sweep(t: Any, state: tuple[Activities, PyTree]) -> tuple[Activities, PyTree]:
        deltas, carry = state
        return move(deltas, carry, uphill_at(deltas))

    def energy(deltas: Activities) -> Scalar:
        return weighed(up.energy(deltas), down.energy(deltas[::-1]))

    state = zeros(start), transformation.init(widened(start))

    def look(deltas: Activities) -> dict[str, Scalar]:
        return task.up.seen(energy(deltas), uphill_at(deltas))

    observe = (lambda state: look(state[0])) if task.config.energy_trace else None
    relaxed = relax(sweep, state, task.config.n - 1, observe=observe)
    deltas, carry = relaxed.state
    taken = energy(deltas)
    change = taken - weighed(up.start_energy(), down.start_energy())
    # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
    (errors_up, one), (errors_down, other) = up.look(deltas), down.look(deltas[::-1])
    deltas, _ = move(deltas, carry, uphill(one, other))
    if task.config.fresh:
        errors_up, errors_down = up.look(deltas)[0], down.look(deltas[::-1])[0]
        taken = energy(deltas)
    trace = None if observe is None else appended(relaxed.trace, look(deltas))
    found_up = _solution(up, start, deltas, errors_up, task.config.n)
    found_down = _solution(down, start[::-1], deltas[::-1], errors_down, task.config.n)
    grads = weighed(found_up.grads, found_down.grads[::-1])
    scale = step_scale(task.config.eta, 1, curvature)
    return SolutionBoth(grads, found_up, found_down, taken, change, scale, trace)


def _weighed(task: BothWays) -> Callable[[PyTree, PyTree], PyTree]:
    """The sum of both directions' parts, weighted as in the energy."""
    alpha_f, alpha_b = task.config.weights
    return lambda one, other: add(tree_scale(one, alpha_f), tree_scale(other, alpha_b))


def _curvature(task: BothWays, up: Way, down: Way) -> Scalar | None:
    """Curvature of the initial energy for a few examples; None if it is not needed."""
    if not task.config.stable or task.config.eta_trace is not None or len(up.sites) == 1:
        return None
    rows = looked_at(batch_size(task.up.x))
    few = task._replace(
        up=task.up.first(rows, widened(up.sites[-1].output)),
        down=task.down.first(rows, widened(down.sites[-1].output)),
    )
    one, other, start = _begin(few)
    weighed = _weighed(task)
    return curvature_of(lambda d: weighed(one.look(d)[1], other.look(d[::-1])[1][::-1]), zeros(start))


def _solution(way: Way, start: Activities, deltas: Activities, errors: tuple[PyTree, ...], n: int) -> Solution:
    return Solution(
        grads=way.gradients(start, deltas, errors),
        outputs=way.sites[-1].output,
        states=(),
        errors=errors,
        activities=tuple(add(widened(v), d) for v, d in zip(start, deltas, strict=True)),
        steps=n,
    )


# ---------------------------------------------------------------------------- the step of the states


def state_step(
    task: BothWays, curvatures: Callable[[], tuple[Scalar, ...]], curvature: Scalar | None = None
) -> optax.GradientTransformation:
    """What turns uphill gradients of the activities into moves: ``eta_trace`` with ``eta`` filled in.

    Args:
        task: the batch, for its settings.
        curvatures: of the activities, one per entry of the moved tuple; computed only when needed.
        curvature: of the whole energy, which limits the documented step; None for no limit.
    """
    trace = task.config.eta_trace
    if trace is None:
        return optax.sgd(limited(task.config.eta, curvature))
    step = made(trace.step) if isinstance(trace.step, str) else trace.step
    if hasattr(step, "update"):
        whole = step
    else:
        whole = optax.sgd(task.config.eta if step is None else step, momentum=trace.momentum or None)
    return optax.chain(_divided_by(curvatures()), whole) if trace.curvature else whole


def _divided_by(curvatures: tuple[Scalar, ...]) -> optax.GradientTransformation:
    def update(updates: Activities, state: Any, params: Any = None) -> tuple[Activities, Any]:
        parts = zip(updates, curvatures, strict=True)
        return tuple(tree_scale(u, 1 / h) for u, h in parts), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def hidden_curvatures(task: BothWays) -> Callable[[], tuple[Scalar, ...]]:
    """Of v_1..v_{L-1}."""
    return lambda: curvatures(task)[1:-1]


def curvatures(task: BothWays) -> tuple[Scalar, ...]:
    """Curvature of the energy along v_0..v_L for activations of slope 1, relative to that of an unconnected activity.

    ``(a_f (1 + |A_{l+1}|^2) + a_b (1 + |B_l|^2)) / (a_f + a_b)``, squares of spectral norms.
    """
    alpha_f, alpha_b = task.config.weights
    up = [*_squared_norms(task.up), jnp.zeros(())]
    down = [jnp.zeros(()), *_squared_norms(task.down)[::-1]]
    return tuple((alpha_f * (1 + a) + alpha_b * (1 + b)) / (alpha_f + alpha_b) for a, b in zip(up, down, strict=True))


def _squared_norms(task: Task) -> list[Scalar]:
    """Squared spectral norm of every layer's linear half."""
    norms, x = [], task.x[:1]
    for layer, params in zip(task.model.layers, task.params, strict=True):
        norms.append(_squared_norm(lambda v, f=layer.linear, p=params: f(p, v), x))  # type: ignore[misc]
        x = layer.apply(params, (), x)[0]
    return norms


def _squared_norm(affine: Callable[[jax.Array], jax.Array], x: jax.Array) -> Scalar:
    """The squared spectral norm, by power iteration from a fixed direction."""
    pull = jax.linear_transpose(affine, x)
    constant = affine(jnp.zeros_like(x))

    def again(_: Any, v: jax.Array) -> jax.Array:
        moved = pull(affine(v) - constant)[0]
        return moved / jnp.maximum(jnp.linalg.norm(moved), jnp.finfo(moved.dtype).tiny)

    v = jax.lax.fori_loop(0, POWER_STEPS, again, jax.random.normal(jax.random.key(0), x.shape, x.dtype))
    return jnp.sum(jnp.square(affine(v) - constant))

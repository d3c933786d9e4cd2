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

A batch passes through `Relaxation`, from top to bottom; one direction is in `direction`, and how activities move is in
`steps`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from neurai_algorithms.bidirectional.direction import Way, following, leading
from neurai_algorithms.bidirectional.steps import hidden_curvatures, state_step
from neurai_algorithms.bidirectional.task import Activities, BothWays, known_to_be
from neurai_algorithms.differences import add, widened, zeros
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.strict import strict
from neurai_algorithms.predictive_coding.task import Solution
from neurai_algorithms.residuals import appended
from neurai_algorithms.stable_step import curvature_of, looked_at, step_scale
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.relaxation import relax


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
    return _begun(task).solution()


def _one_way(task: BothWays) -> PCConfig:
    """The settings as those of strict predictive coding."""
    config, trace = task.config, task.config.eta_trace
    eta, corrector = (config.eta, None) if trace is None else (config.eta, state_step(task, hidden_curvatures(task)))
    kept = {name: getattr(config, name) for name in ("n", "fresh", "stable", "energy_trace")}
    return task.up.config.model_copy(update={**kept, "eta": eta, "corrector": corrector})


class Relaxation(NamedTuple):
    """A batch that relaxes: what all sweeps need.

    Attributes:
        task: the batch.
        up: its upward direction.
        down: its downward direction.
        curvature: of the initial energy; None if it limits no step.
        moves: turns uphill gradients of the activities into moves.
    """

    task: BothWays
    up: Way
    down: Way
    curvature: Scalar | None
    moves: optax.GradientTransformation

    def solution(self) -> SolutionBoth:
        """Run all sweeps, and learn."""
        task, n = self.task, self.task.config.n
        observe = (lambda state: self.seen(state[0])) if task.config.energy_trace else None
        start = zeros(self.up.start), self.moves.init(widened(self.up.start))
        rest = relax(self.sweep, start, n - 1, observe=observe)
        deltas, carry = rest.state
        energy = self.energy(deltas)
        change = energy - task.weighed(self.up.start_energy(), self.down.start_energy())
        # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
        (up, pull_up), (down, pull_down) = self.up.look(deltas), self.down.look(deltas[::-1])
        deltas, _ = self.move(deltas, carry, self.uphill(pull_up, pull_down))
        if task.config.fresh:
            up, down = self.up.look(deltas)[0], self.down.look(deltas[::-1])[0]
            energy = self.energy(deltas)
        trace = None if observe is None else appended(rest.trace, self.seen(deltas))
        found = self.up.solution(deltas, up, n), self.down.solution(deltas[::-1], down, n)
        grads = task.weighed(found[0].grads, found[1].grads[::-1])
        return SolutionBoth(grads, *found, energy, change, step_scale(task.config.eta, 1, self.curvature), trace)

    def sweep(self, t: Any, state: tuple[Activities, PyTree]) -> tuple[Activities, PyTree]:
        """Move all activities at once."""
        deltas, carry = state
        return self.move(deltas, carry, self.uphill_at(deltas))

    def move(self, deltas: Activities, carry: PyTree, uphill: Activities) -> tuple[Activities, PyTree]:
        """The activities after a move, and what the moves carry on."""
        updates, carry = self.moves.update(uphill, carry, add(widened(self.up.start), deltas))
        return add(deltas, updates), carry

    def uphill_at(self, deltas: Activities) -> Activities:
        """The gradient of F with respect to the hidden activities."""
        return self.uphill(self.up.look(deltas)[1], self.down.look(deltas[::-1])[1])

    def uphill(self, up: Activities, down: Activities) -> Activities:
        """The same from the descent directions of both energies."""
        return jax.tree.map(jnp.negative, self.task.weighed(up, down[::-1]))

    def energy(self, deltas: Activities) -> Scalar:
        """F at these activities, over the precision."""
        return self.task.weighed(self.up.energy(deltas), self.down.energy(deltas[::-1]))

    def seen(self, deltas: Activities) -> dict[str, Scalar]:
        """The entries of a trace for one sweep."""
        return self.task.up.seen(self.energy(deltas), self.uphill_at(deltas))


def _begun(task: BothWays) -> Relaxation:
    up, down = _ways(task)
    curvature = _curvature(task, up, down)
    return Relaxation(task, up, down, curvature, state_step(task, hidden_curvatures(task), curvature))


def _ways(task: BothWays) -> tuple[Way, Way]:
    """Both directions around the activities of the upward sweep, or of the downward one if nothing predicts upward."""
    weights = None if task.hidden_down is None else task.hidden_down[::-1]
    if known_to_be(task.config.weights[0], 0):
        down = leading(task.down, weights)
        return following(task.up, down), down
    up = leading(task.up)
    return up, following(task.down, up, weights)


def _curvature(task: BothWays, up: Way, down: Way) -> Scalar | None:
    """Curvature of the initial energy for a few examples; None if it is not needed."""
    if not task.config.stable or task.config.eta_trace is not None or len(up.sites) == 1:
        return None
    rows = looked_at(batch_size(task.up.x))
    few = task._replace(
        up=task.up.first(rows, widened(up.sites[-1].output)),
        down=task.down.first(rows, widened(down.sites[-1].output)),
    )
    one, other = _ways(few)
    return curvature_of(lambda d: task.weighed(one.look(d)[1], other.look(d[::-1])[1][::-1]), zeros(one.start))

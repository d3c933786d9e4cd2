r"""Strict predictive coding on any network: descent of all named values at once, exact to rounding at any depth.

    F = loss(mu_out(v), y) + 1/2 sum_k sum_i |mu_ki(v) - v_k|^2 ,   v starts at the feed-forward pass
    v <- v - eta dF/dv                                              for all names k at once

``mu_ki`` is the i-th prediction of activity ``v_k``: a name that occurs again is predicted again. On a chain this is
`strict`; as there, the state is the distance from the feed-forward pass, and whatever a sweep cannot have
reached is not computed; `neurai_core.changes` carries these distances through any function.

A batch passes through `NetworkRelaxation`, from top to bottom; how activities move is in `network_moves`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax

from neurai_algorithms.differences import add, like, widened, zeros
from neurai_algorithms.predictive_coding.network_moves import NetworkMover, mover_for
from neurai_algorithms.predictive_coding.network_task import Errors, NetworkTask, errors_around, errors_of
from neurai_algorithms.predictive_coding.task import Solution, activities_of
from neurai_algorithms.residuals import appended
from neurai_algorithms.stable_step import Curvature
from neurai_core.arrays import PyTree, Scalar
from neurai_core.changes import Around
from neurai_core.network import Activities
from neurai_core.relaxation import never, relax

Deltas = dict[str, jax.Array]


def strict_on_network(task: NetworkTask) -> Solution:
    """Relax, then learn: the gradients of strict predictive coding."""
    here = Around(task.network.function, *task.arguments)
    curvature = feedforward_curvature(task, here.outputs[0])
    return NetworkRelaxation(task, here, mover_for(task, curvature)).solution()


class Settled(NamedTuple):
    """State after all sweeps but the last.

    Attributes:
        deltas: distances from the feed-forward pass, by name.
        carry: state of a corrector.
        steps: sweeps taken.
        trace: energy and residual before each of them and after; None unless requested.
    """

    deltas: Deltas
    carry: PyTree
    steps: Any
    trace: Any


class NetworkRelaxation(NamedTuple):
    """A batch that relaxes: what all sweeps need.

    Attributes:
        task: the batch.
        here: its network around the feed-forward pass.
        mover: how its activities move.
    """

    task: NetworkTask
    here: Around
    mover: NetworkMover

    def solution(self) -> Solution:
        """Run all sweeps, and learn."""
        task, here = self.task, self.here
        outputs, model_state = here.outputs
        rest = self.relaxed()
        # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
        before = self.look(rest.deltas)
        (deltas, carry), _ = self.sweep(task.config.n - 1, (rest.deltas, rest.carry))
        errors, top = self.look(deltas) if task.config.fresh else before
        activities = {name: like(add(widened(here.at[name]), d), here.at[name]) for name, d in deltas.items()}
        top_error = jax.grad(task.scaled_loss)(top)
        return Solution(
            grads=task.gradients(activities, errors, top_error),
            outputs=outputs,
            states=model_state,
            errors=task.listed(errors, top_error),
            activities=activities,
            steps=rest.steps + 1,
            energy=task.energy(top, errors),
            energy_change=task.energy(before[1], before[0]) - self.energy({}),
            step_scale=self.mover.scale(carry),
            trace=None if rest.trace is None else appended(rest.trace, task.seen(*self.energy_and_slope(deltas))),
        )

    def relaxed(self) -> Settled:
        """Run all sweeps but the last, whose errors give the gradients."""
        task, here, config = self.task, self.here, self.task.config
        cone = config.light_cone and config.corrector is None and not config.energy_trace and never(config.tol)

        def move(t: Any, state: tuple[Deltas, PyTree], resting: Collection[str]) -> tuple[Deltas, PyTree]:
            return self.sweep(t, state, resting)[0]

        move = jax.checkpoint(move, static_argnums=2) if config.remat else move
        deltas: Deltas = {}  # grows with the cone: a name that it lacks has not moved and costs nothing
        carry, done = self.mover.begin({name: widened(at) for name, at in here.at.items()}), 0
        for stage in here.cone(config.n - 1) if cone else ():
            deltas = _filled(deltas, {name: here.at[name] for name in stage.names})
            if stage.sweeps == 1:
                deltas, carry = move(done, (deltas, carry), stage.resting)
            else:
                deltas, carry = relax(_from(done, move), (deltas, carry), stage.sweeps, moving=activities_of).state
            done += stage.sweeps
        start, left = (_filled(deltas, here.at), carry), config.n - 1 - done
        look = self.energy_and_slope
        (deltas, carry), steps, trace = task.relaxed(_from(done, self.sweep), start, left, lambda state: look(state[0]))
        return Settled(deltas, carry, steps + done, trace)

    def sweep(
        self, t: Any, state: tuple[Deltas, PyTree], resting: Collection[str] = ()
    ) -> tuple[tuple[Deltas, PyTree], Deltas]:
        """Move every name that has a delta; also the slope that moved it."""
        deltas, carry = state
        uphill = jax.grad(lambda deltas: self.energy(deltas, resting))(deltas)
        origin = {name: widened(self.here.at[name]) for name in deltas}
        return self.mover.move(t, deltas, uphill, carry, origin), uphill

    def look(self, deltas: Deltas, resting: Collection[str] = ()) -> tuple[Errors, PyTree]:
        """Every prediction minus its activity, and the outputs; names that have not moved may be left out."""
        return look_at(self.here, deltas, resting)

    def energy(self, deltas: Deltas, resting: Collection[str] = ()) -> Scalar:
        """F, from the distances of activities from the feed-forward pass."""
        errors, outputs = self.look(deltas, resting)
        return self.task.energy(outputs, errors)

    def energy_and_slope(self, deltas: Deltas) -> tuple[Scalar, Deltas]:
        """F, and its derivatives with respect to the distances."""
        return jax.value_and_grad(self.energy)(deltas)


def look_at(here: Around, deltas: Deltas, resting: Collection[str] = ()) -> tuple[Errors, PyTree]:
    """Every prediction minus its activity, and the outputs.

    Args:
        here: the network around the feed-forward pass.
        deltas: distances of activities from it; names that have not moved may be left out.
        resting: names whose distance is zero so far.
    """
    (change, _), predictions = here.changes(deltas, resting=resting)
    errors = errors_around(here, predictions, deltas)
    outputs = jax.tree.map(
        lambda at, c: widened(at) if c is None else widened(at) + c,
        here.outputs[0],
        change,
        is_leaf=lambda leaf: leaf is None,
    )
    return errors, outputs


def _filled(deltas: Deltas, at: Mapping[str, jax.Array]) -> Deltas:
    """Distances for all of these activities, zero where missing."""
    return {name: deltas[name] if name in deltas else zeros(value) for name, value in at.items()}


def _from(first: int, sweep: Callable[..., Any]) -> Callable[..., Any]:
    return lambda t, state: sweep(t + first, state, ())


def feedforward_curvature(task: NetworkTask, outputs: PyTree) -> Curvature | None:
    """Curvature of the energy at the feed-forward pass of a few examples; None if it is not needed."""
    return task.curvature(outputs, energy_of_activities)


def energy_of_activities(task: NetworkTask) -> tuple[Callable[[Activities], Scalar], Activities]:
    """F written out, and the activities of the feed-forward pass: a small program, enough for a curvature."""
    arguments = (task.params, task.model_state), task.x
    at = {name: found[0] for name, found in task.network(*arguments)[1].items()}

    def energy(activities: Activities) -> Scalar:
        (outputs, _), predictions = task.network(
            *arguments, {name: like(v, at[name]) for name, v in activities.items()}
        )
        return task.energy(widened(outputs), errors_of(predictions, activities))

    return energy, {name: widened(v) for name, v in at.items()}


def energy_from_rest(task: NetworkTask) -> Callable[[Deltas], Scalar]:
    """F, from the distances of all activities from the feed-forward pass."""
    here = Around(task.network.function, *task.arguments)

    def energy(deltas: Deltas) -> Scalar:
        errors, outputs = look_at(here, deltas)
        return task.energy(outputs, errors)

    return energy

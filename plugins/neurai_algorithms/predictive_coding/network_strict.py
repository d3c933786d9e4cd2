r"""Strict predictive coding on any network: descent of all named values at once, exact to rounding at any depth.

    F = loss(mu_out(v), y) + 1/2 sum_k sum_i |mu_ki(v) - v_k|^2 ,   v starts at the feed-forward pass
    v <- v - eta dF/dv                                              for all names k at once

``mu_ki`` is the i-th prediction of activity ``v_k``: a name that occurs again is predicted again. On a chain this is
`strict`; as there, the state is the distance from the feed-forward pass, and whatever a sweep cannot have
reached is not computed; `neurai_core.changes` carries these distances through any function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

from neurai_algorithms.differences import add, like, widened, zeros
from neurai_algorithms.optax_texts import made
from neurai_algorithms.predictive_coding.network_task import Errors, NetworkTask, errors_around, errors_of
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.task import Solution, activities_of
from neurai_algorithms.residuals import appended, never
from neurai_algorithms.stable_step import Moves, first_moves, limited_steps, secant_steps, step_scale
from neurai_core.arrays import PyTree, Scalar, beside_batch, tree_scale
from neurai_core.changes import Around
from neurai_core.network import Activities
from neurai_core.relaxation import relax

Deltas = dict[str, jax.Array]


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


def strict_on_network(task: NetworkTask) -> Solution:
    """Relax, then learn: the gradients of strict predictive coding."""
    here = Around(task.network.function, *task.arguments)
    outputs, model_state = here.outputs
    curvature = feedforward_curvature(task, outputs)
    begin, move, scale = _moves(task, curvature)
    sweep = _sweep(task, here, move)
    rest = _relaxed(task, here, sweep, begin)
    # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
    before = _look(task, here, rest.deltas)
    (deltas, carry), _ = sweep(task.config.n - 1, (rest.deltas, rest.carry), ())
    errors, top = _look(task, here, deltas) if task.config.fresh else before
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
        energy_change=task.energy(before[1], before[0]) - _energy(task, here, {}),
        step_scale=scale(carry),
        trace=None if rest.trace is None else appended(rest.trace, _seen(task, here, deltas)),
    )


def _look(task: NetworkTask, here: Around, deltas: Deltas, resting: Collection[str] = ()) -> tuple[Errors, PyTree]:
    """Every prediction minus its activity, and the outputs; names that have not moved may be left out."""
    (change, _), predictions = here.changes(deltas, resting=resting)
    errors = errors_around(here, predictions, deltas)
    outputs = jax.tree.map(
        lambda at, c: widened(at) if c is None else widened(at) + c,
        here.outputs[0],
        change,
        is_leaf=lambda leaf: leaf is None,
    )
    return errors, outputs


def _energy(task: NetworkTask, here: Around, deltas: Deltas, resting: Collection[str] = ()) -> Scalar:
    errors, outputs = _look(task, here, deltas, resting)
    return task.energy(outputs, errors)


def _seen(task: NetworkTask, here: Around, deltas: Deltas) -> dict[str, Scalar]:
    return task.seen(*jax.value_and_grad(partial(_energy, task, here))(deltas))


# ---------------------------------------------------------------------------- sweeps

Sweep = Callable[..., tuple[tuple[Deltas, PyTree], Deltas]]


def _sweep(task: NetworkTask, here: Around, move: Callable[..., Any]) -> Sweep:
    """``(t, (deltas, carry), resting) -> ((deltas, carry), uphill)``: one step of every name that has a delta."""
    origin = {name: widened(at) for name, at in here.at.items()}

    def sweep(t: Any, state: tuple[Deltas, PyTree], resting: Collection[str]) -> Any:
        deltas, carry = state
        uphill = jax.grad(lambda deltas: _energy(task, here, deltas, resting))(deltas)
        return move(t, deltas, uphill, carry, {name: origin[name] for name in deltas}), uphill

    return sweep


def _moves(
    task: NetworkTask, curvature: Scalar | None
) -> tuple[Callable[[Deltas], PyTree], Callable[..., tuple[Deltas, PyTree]], Callable[[PyTree], Scalar]]:
    """``(begin, move, scale)``: how distances move, and carry -> the smallest factor on a documented step."""
    config = task.config
    if curvature is not None and task.steps_are_watched:
        return *_watching_mover(config, curvature, task.network.names), lambda moves: moves.scale
    return *mover(config, curvature), lambda _: step_scale(config.eta, config.n, curvature)


def mover(config: PCConfig, curvature: Scalar | None) -> tuple[Callable[..., PyTree], Callable[..., Any]]:
    """How coordinates move against the gradient of the energy.

    Args:
        config: settings.
        curvature: limits the step; None for no limit.

    Returns:
        ``(begin, move)``: ``begin(coordinates) -> carry`` and ``move(t, coordinates, uphill, carry, origin=None) ->
        (coordinates, carry)``, with the origin from which coordinates are counted.
    """
    corrector = config.corrector
    if corrector is None:
        step = limited_steps(config.eta, curvature)

        def plain(t: Any, at: PyTree, uphill: PyTree, carry: PyTree, origin: PyTree = None) -> tuple[PyTree, PyTree]:
            return add(at, tree_scale(uphill, -step(t))), carry

        return lambda at: (), plain
    transformation = made(corrector) if isinstance(corrector, str) else corrector

    def move(t: Any, at: PyTree, uphill: PyTree, carry: PyTree, origin: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, carry = transformation.update(uphill, carry, at if origin is None else add(origin, at))
        return add(at, updates), carry

    return transformation.init, move


def _watching_mover(
    config: PCConfig, curvature: Scalar, names: tuple[str, ...]
) -> tuple[Callable[[Deltas], Moves], Callable[..., tuple[Deltas, Moves]]]:
    """Like `mover`, with a step for every example and activity, adapted after each move."""
    eta = limited_steps(config.eta, None)

    def begin(at: Deltas) -> Moves:
        return first_moves(curvature, tuple(zeros(at[name]) for name in names))

    def move(t: Any, at: Deltas, uphill: Deltas, moves: Moves, origin: Any = None) -> tuple[Deltas, Moves]:
        downhill = tuple(-uphill[name] if name in uphill else None for name in names)
        steps, moves = secant_steps(eta(t), curvature, downhill, moves)
        beside = dict(zip(names, steps, strict=True))
        return {name: v - beside_batch(beside[name], v) * uphill[name] for name, v in at.items()}, moves

    return begin, move


def _relaxed(task: NetworkTask, here: Around, sweep: Sweep, begin: Callable[[PyTree], PyTree]) -> Settled:
    """Run n - 1 sweeps; `strict_on_network` makes the last one, whose errors give the gradients."""
    config = task.config
    cone = config.light_cone and config.corrector is None and not config.energy_trace and never(config.tol)

    def move(t: Any, state: tuple[Deltas, PyTree], resting: Collection[str]) -> tuple[Deltas, PyTree]:
        return sweep(t, state, resting)[0]  # type: ignore[no-any-return]

    move = jax.checkpoint(move, static_argnums=2) if config.remat else move
    deltas: Deltas = {}  # grows with the cone: a name that it lacks has not moved and costs nothing
    carry, done = begin({name: widened(at) for name, at in here.at.items()}), 0
    for stage in here.cone(config.n - 1) if cone else ():
        deltas = _filled(deltas, {name: here.at[name] for name in stage.names})
        if stage.sweeps == 1:
            deltas, carry = move(done, (deltas, carry), stage.resting)
        else:
            deltas, carry = relax(_from(done, move), (deltas, carry), stage.sweeps, moving=activities_of).state
        done += stage.sweeps
    start, look = (_filled(deltas, here.at), carry), jax.value_and_grad(partial(_energy, task, here))
    left = config.n - 1 - done
    (deltas, carry), steps, trace = task.relaxed(_from(done, sweep), start, left, lambda state: look(state[0]))
    return Settled(deltas, carry, steps + done, trace)


def _filled(deltas: Deltas, at: Mapping[str, jax.Array]) -> Deltas:
    """Distances for all of these activities, zero where missing."""
    return {name: deltas[name] if name in deltas else zeros(value) for name, value in at.items()}


def _from(first: int, sweep: Callable[..., Any]) -> Callable[..., Any]:
    return lambda t, state: sweep(t + first, state, ())


def feedforward_curvature(task: NetworkTask, outputs: PyTree) -> Scalar | None:
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
    return partial(_energy, task, Around(task.network.function, *task.arguments))

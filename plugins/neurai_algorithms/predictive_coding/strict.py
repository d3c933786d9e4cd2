r"""Strict predictive coding: synchronous descent on the energy, accurate to rounding at any depth.

    F = loss(f_L(v_{L-1}), y) + 1/2 sum_{l<L} |f_l(v_{l-1}) - v_l|^2 ,   v_0 = x, v starts at the feed-forward pass
    eps_l = f_l(v_{l-1}) - v_l ,   eps_L = dloss ,   v_l <- v_l + eta (eps_l - J_{l+1}^T eps_{l+1})   for all l at once

Whittington and Bogacz 2017, doi:10.1162/NECO_a_00949, with the order of Rosenbaum 2022: gradients take their inputs
after the last move and their errors before it.

The state is not v but its distance from the feed-forward pass, ``delta``: errors come from changes instead of
from differences of nearly equal numbers. In sweep t nothing below layer L - t can have moved (the light cone):
what is still exactly zero (``None`` here) is not computed. Layer 1 predicts a constant and takes no part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import Around, add, hidden_zero, like, subtract, widened, zeros
from neurai_algorithms.optax_texts import made
from neurai_algorithms.predictive_coding.task import Solution, Sweep, Task, half_square
from neurai_algorithms.residuals import appended, never
from neurai_algorithms.stable_step import curvature_of, first_moves, limited_steps, looked_at, secant_steps, step_scale
from neurai_core.arrays import PyTree, Scalar, batch_size, beside_batch, tree_scale
from neurai_core.relaxation import relax

UNROLLED_VISITS = 256  # layer visits in the cone beyond which stages of several sweeps share one compiled loop

Deltas = tuple[PyTree, ...]


class Look(NamedTuple):
    """Errors and descent directions at given activities; None for exact zeros.

    Attributes:
        errors: eps_1..eps_L.
        descent: the descent direction of v_1..v_{L-1}.
        output: f_L(v_{L-1}).
    """

    errors: tuple[PyTree, ...]
    descent: tuple[PyTree, ...]
    output: PyTree


def strict(task: Task) -> Solution:
    """Relax, then learn: the gradients of strict predictive coding."""
    sites = task.expanded(task.x)
    curvature = feedforward_curvature(task, sites[0].output, sites[-1].output)
    mover = _mover(task, sites, curvature)
    rest = _relaxed(task, sites, mover)
    # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
    before = _look(task, sites, rest.deltas)
    deltas, carry = mover.move(task.config.n - 1, rest.deltas, before.descent, rest.carry)
    taken = _look(task, sites, deltas) if task.config.fresh else before
    trace = rest.trace
    if trace is not None:
        trace = appended(trace, task.seen(*_energy_and_forces(task, sites, deltas)))
    return Solution(
        grads=_gradients(task, sites, deltas, taken.errors),
        outputs=sites[-1].output,
        states=tuple(site.model_state for site in sites),
        errors=tuple(_filled(e, site.output) for e, site in zip(taken.errors, sites, strict=True)),
        activities=tuple(_filled(_activity(site, d), site.output) for site, d in zip(sites, deltas, strict=False)),
        steps=rest.steps + 1,
        energy=_energy(task, taken),
        energy_change=_energy(task, before) - task.scaled_loss(widened(sites[-1].output)),
        step_scale=mover.scale(carry),
        trace=trace,
    )


# ---------------------------------------------------------------------------- one sweep


def _look(task: Task, sites: tuple[Around, ...], deltas: Deltas) -> Look:
    """Errors and descent direction; every layer's share touches only its neighbors."""
    zero = hidden_zero(sites[-1].output)
    changes, pulls = [None], []
    reached = [d is not None for d in (*deltas, "the output")[1:]]
    for site, below, is_reached in zip(sites[1:], deltas, reached, strict=True):
        if not is_reached:
            change, pull = None, None
        else:
            change, pull = site.rest(zero) if below is None else site.pull(below)
        changes.append(change)
        pulls.append(pull)
    output = _moved(sites[-1].output, changes[-1])
    hidden = (_minus(change, d) for change, d in zip(changes[:-1], deltas, strict=True))
    errors = (*hidden, jax.grad(task.scaled_loss)(output))
    back = [None if pull is None else pull(e) for pull, e in zip(pulls, errors[1:], strict=True)]
    return Look(errors, tuple(_minus(e, b) for e, b in zip(errors[:-1], back, strict=True)), output)


def _minus(a: PyTree, b: PyTree) -> PyTree:
    """a - b where None is an exact zero."""
    if b is None:
        return a
    return jax.tree.map(jnp.negative, b) if a is None else subtract(a, b)


def _moved(output: PyTree, delta: PyTree) -> PyTree:
    return widened(output) if delta is None else add(widened(output), delta)


def _activity(site: Around, delta: PyTree) -> PyTree:
    return _moved(site.output, delta)


def _filled(tree: PyTree, output: PyTree, zero: Any = 0) -> PyTree:
    return zeros(output, zero) if tree is None else tree


def _energy(task: Task, look: Look) -> Scalar:
    """F at these activities, with the scaled loss of the relaxation."""
    return task.scaled_loss(look.output) + sum(half_square(e) for e in look.errors[:-1] if e is not None)


def _energy_and_forces(task: Task, sites: tuple[Around, ...], deltas: Deltas) -> tuple[Scalar, Deltas]:
    look = _look(task, sites, deltas)
    return _energy(task, look), look.descent


# ---------------------------------------------------------------------------- the move


def feedforward_curvature(task: Task, first: PyTree, outputs: PyTree) -> Scalar | None:
    """Curvature of the energy at the feed-forward pass of a few examples; None if it is not needed.

    Args:
        task: the batch.
        first: its activities of layer 1.
        outputs: its outputs.
    """
    if not task.config.stable or task.config.corrector is not None or len(task.model) == 1:
        return None
    rows = looked_at(batch_size(task.x))
    few = task.first(rows, widened(outputs))
    below = jax.tree.map(lambda leaf: leaf[:rows], first)
    bottom = Around(below, (), lambda d: d, lambda zero: (below, lambda e: e))  # never used: its input is held fixed
    seen = (bottom, *few.expanded(below, first=1))
    start = tuple(zeros(site.output) for site in seen[:-1])
    return curvature_of(lambda deltas: _look(few, seen, deltas).descent, start)


class Mover(NamedTuple):
    """How activities move.

    Attributes:
        carry: initial state of a corrector.
        move: ``(t, deltas, descent, carry) -> (deltas, carry)``.
        scale: carry -> the smallest factor on the documented step.
    """

    carry: PyTree
    move: Callable[..., tuple[Deltas, PyTree]]
    scale: Callable[[PyTree], Scalar]


def _mover(task: Task, sites: tuple[Around, ...], curvature: Scalar | None) -> Mover:
    corrector = task.config.corrector
    if corrector is None:
        if curvature is not None and not all(site.bounded for site in sites):
            return _watching_mover(task, sites, curvature)
        step = limited_steps(task.config.eta, curvature)

        def plain(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
            return _plain_move((step(t),) * len(deltas), sites, deltas, descent), carry

        return Mover((), plain, lambda carry: step_scale(task.config.eta, task.config.n, curvature))
    transformation = made(corrector) if isinstance(corrector, str) else corrector
    start = tuple(widened(site.output) for site in sites[:-1])

    def move(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
        uphill = jax.tree.map(jnp.negative, descent)
        updates, carry = transformation.update(uphill, carry, add(start, deltas))
        return add(deltas, updates), carry

    return Mover(transformation.init(start), move, lambda carry: jnp.ones(()))


def _watching_mover(task: Task, sites: tuple[Around, ...], curvature: Scalar) -> Mover:
    """Adapt steps after each move, for layers whose curvature may grow away from the feed-forward pass."""
    eta = limited_steps(task.config.eta, None)
    start = first_moves(curvature, tuple(zeros(site.output) for site in sites[:-1]))

    def move(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
        steps, carry = secant_steps(eta(t), curvature, descent, carry)
        return _plain_move(steps, sites, deltas, descent), carry

    return Mover(start, move, lambda moves: moves.scale)


def _plain_move(steps: tuple[Any, ...], sites: tuple[Around, ...], deltas: Deltas, descent: Deltas) -> Deltas:
    zero = hidden_zero(sites[-1].output)
    return tuple(
        d if g is None else add(_filled(d, site.output, zero), _scaled(g, step))
        for step, site, d, g in zip(steps, sites, deltas, descent, strict=False)
    )


def _scaled(tree: PyTree, step: Any) -> PyTree:
    """A tree times one number, or one per example."""
    if jnp.ndim(step) == 0:
        return tree_scale(tree, step)
    return jax.tree.map(lambda leaf: leaf * beside_batch(step, leaf), tree)


# ---------------------------------------------------------------------------- all sweeps but the last


class _Relaxed(NamedTuple):
    deltas: Deltas
    carry: PyTree
    steps: Any
    trace: Any = None


def _relaxed(task: Task, sites: tuple[Around, ...], mover: Mover) -> _Relaxed:
    """Run n - 1 sweeps; `strict` makes the last one, whose errors give the gradients."""

    def sweep(t: Any, state: tuple[Deltas, PyTree]) -> tuple[tuple[Deltas, PyTree], Deltas]:
        deltas, carry = state
        descent = _look(task, sites, deltas).descent
        return mover.move(t, deltas, descent, carry), descent

    return _settled(task, sites, sweep, _spread(task, sites, sweep, mover.carry))


def _spread(task: Task, sites: tuple[Around, ...], sweep: Sweep, carry: PyTree) -> _Relaxed:
    """Run the sweeps in which the signal travels from output to first layer, if they are treated separately."""
    config = task.config
    cone = config.light_cone and config.corrector is None and not config.energy_trace
    zero = hidden_zero(sites[-1].output)
    deltas: Deltas = tuple(None if cone else zeros(site.output, zero) for site in sites[:-1])
    state, reach = (deltas, carry), min(config.n - 1, len(deltas))
    # With tol these sweeps run apart even without a cone, so that it cannot end the relaxation before all layers move.
    stages = _stages(reach) if cone else [] if never(config.tol) else [(0, reach)]

    def move(t: Any, state: tuple[Deltas, PyTree]) -> tuple[Deltas, PyTree]:
        return sweep(t, state)[0]

    move = jax.checkpoint(move) if config.remat else move
    for start, stop in stages:
        state = _stage(move, state, sites, start, stop)
    return _Relaxed(*state, steps=reach if stages else 0)


def _settled(task: Task, sites: tuple[Around, ...], sweep: Sweep, spread: _Relaxed) -> _Relaxed:
    """Run the remaining sweeps. Only here does tol apply: no force acts where the signal has not arrived."""
    config, left = task.config, task.config.n - 1 - spread.steps
    if not left and not config.energy_trace:
        return spread
    (deltas, carry), steps, trace = task.relaxed(
        lambda t, state: sweep(t + spread.steps, state),
        (spread.deltas, spread.carry),
        left,
        lambda state: _energy_and_forces(task, sites, state[0]),
    )
    return _Relaxed(deltas, carry, steps + spread.steps, trace)


def _stages(reach: int) -> list[tuple[int, int]]:
    """Sweeps of the cone in stages: one sweep each, longer ones where unrolling would make too large a program."""
    length = max(1, -(-reach * (reach + 1) // 2 // UNROLLED_VISITS))
    return [(start, min(start + length, reach)) for start in range(0, reach, length)]


def _stage(sweep: Callable[..., Any], state: Any, sites: tuple[Around, ...], start: int, stop: int) -> Any:
    """Run sweeps start..stop-1; each sweep of a longer stage computes all that the last one can reach."""
    deltas, carry = state
    if stop - start == 1 or not deltas:
        return sweep(start, state)
    lowest = 0 if deltas[0] is not None else len(deltas) - stop
    zero = hidden_zero(sites[-1].output)
    # A loop cannot turn None into arrays: what the last sweep reaches begins as zeros.
    reached = [_filled(d, site.output, zero) for site, d in zip(sites[lowest:-1], deltas[lowest:], strict=True)]

    def step(t: Any, state: Any) -> Any:
        moved, carry = sweep(t + start, ((None,) * lowest + tuple(state[0]), state[1]))
        return list(moved[lowest:]), carry

    reached, carry = relax(step, (reached, carry), stop - start).state
    return (None,) * lowest + tuple(reached), carry


# ---------------------------------------------------------------------------- learning


def _gradients(task: Task, sites: tuple[Around, ...], deltas: Deltas, errors: tuple[PyTree, ...]) -> PyTree:
    """Each layer's own: (df_l/dtheta_l at v_{l-1})^T eps_l; exact zeros where no error has arrived."""
    inputs = [task.x] + [like(_activity(site, d), site.output) for site, d in zip(sites, deltas, strict=False)]
    return tuple(
        task.own_gradient(index, v, site.output, e)
        for index, (v, site, e) in enumerate(zip(inputs, sites, errors, strict=True))
    )

r"""Strict predictive coding: synchronous descent on the energy, accurate to rounding at any depth.

    F = loss(f_L(v_{L-1}), y) + 1/2 sum_{l<L} |f_l(v_{l-1}) - v_l|^2 ,   v_0 = x, v starts at the feed-forward pass
    eps_l = f_l(v_{l-1}) - v_l ,   eps_L = dloss ,   v_l <- v_l + eta (eps_l - J_{l+1}^T eps_{l+1})   for all l at once

The errors are the fixed point of equation 54, and the moves equation 53, of Bogacz 2017, doi:10.1016/j.jmp.2015.11.003,
turned upward by Whittington and Bogacz 2017, doi:10.1162/NECO_a_00949. As in Rosenbaum 2022, gradients take their
inputs after the last move and their errors before it.

The state is not v but its distance from the feed-forward pass, ``delta``: errors come from changes instead of
from differences of nearly equal numbers. In sweep t nothing below layer L - t can have moved (the light cone):
what is still exactly zero (``None`` here) is not computed. Layer 1 predicts a constant and takes no part.

A batch passes through `Relaxation`, from top to bottom; how activities move is in `moves`, and the sweeps of the light
cone are in `light_cone`, which changes no number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import Around, add, hidden_zero, like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.light_cone import Deltas, Spread, filled, spread
from neurai_algorithms.predictive_coding.moves import Mover, mover_around
from neurai_algorithms.predictive_coding.task import Solution, Task, half_square
from neurai_algorithms.residuals import appended
from neurai_algorithms.stable_step import curvature_of, looked_at
from neurai_core.arrays import PyTree, Scalar, batch_size


def strict(task: Task) -> Solution:
    """Relax, then learn: the gradients of strict predictive coding."""
    sites = task.expanded(task.x)
    mover = mover_around(sites, task.config, feedforward_curvature(task, sites[0].output, sites[-1].output))
    return Relaxation(task, sites, mover).solution()


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


class Relaxation(NamedTuple):
    """A batch that relaxes: what all sweeps need.

    Attributes:
        task: the batch.
        sites: its layers, each expanded around the feed-forward pass.
        mover: how its activities move.
    """

    task: Task
    sites: tuple[Around, ...]
    mover: Mover

    def solution(self) -> Solution:
        """Run all sweeps, and learn."""
        task, sites = self.task, self.sites
        rest, trace = self.relaxed()
        # The last sweep apart: parameters learn from its errors, before the move, at the inputs after it.
        before = self.look(rest.deltas)
        deltas, carry = self.mover.move(task.config.n - 1, rest.deltas, before.descent, rest.carry)
        taken = self.look(deltas) if task.config.fresh else before
        if trace is not None:
            trace = appended(trace, task.seen(*self.energy_and_forces(deltas)))
        return Solution(
            grads=self.gradients(deltas, taken.errors),
            outputs=sites[-1].output,
            states=tuple(site.model_state for site in sites),
            errors=tuple(filled(e, site.output) for e, site in zip(taken.errors, sites, strict=True)),
            activities=tuple(filled(_moved(s.output, d), s.output) for s, d in zip(sites, deltas, strict=False)),
            steps=rest.steps + 1,
            energy=self.energy(taken),
            energy_change=self.energy(before) - task.scaled_loss(widened(sites[-1].output)),
            step_scale=self.mover.scale(carry),
            trace=trace,
        )

    def relaxed(self) -> tuple[Spread, Any]:
        """Run all sweeps but the last, whose errors give the gradients; with their trace, None unless requested."""
        config = self.task.config
        arrived = spread(self.sites, config, self.sweep, self.mover.carry)
        left = config.n - 1 - arrived.steps
        if not left and not config.energy_trace:
            return arrived, None
        # Only here does tol apply: no force acts where the signal has not arrived.
        (deltas, carry), steps, trace = self.task.relaxed(
            lambda t, state: self.sweep(t + arrived.steps, state),
            (arrived.deltas, arrived.carry),
            left,
            lambda state: self.energy_and_forces(state[0]),
        )
        return Spread(deltas, carry, steps + arrived.steps), trace

    def sweep(self, t: Any, state: tuple[Deltas, PyTree]) -> tuple[tuple[Deltas, PyTree], Deltas]:
        """Move all activities at once; also what moved them."""
        deltas, carry = state
        descent = self.look(deltas).descent
        return self.mover.move(t, deltas, descent, carry), descent

    def look(self, deltas: Deltas) -> Look:
        """Errors and descent direction; every layer's share touches only its neighbors."""
        return look_at(self.task, self.sites, deltas)

    def energy(self, look: Look) -> Scalar:
        """F at these activities, with the scaled loss of the relaxation."""
        return self.task.scaled_loss(look.output) + sum(half_square(e) for e in look.errors[:-1] if e is not None)

    def energy_and_forces(self, deltas: Deltas) -> tuple[Scalar, Deltas]:
        """F, and the forces on the activities."""
        look = self.look(deltas)
        return self.energy(look), look.descent

    def gradients(self, deltas: Deltas, errors: tuple[PyTree, ...]) -> PyTree:
        """Each layer's own: (df_l/dtheta_l at v_{l-1})^T eps_l; exact zeros where no error has arrived."""
        moved = (like(_moved(site.output, d), site.output) for site, d in zip(self.sites, deltas, strict=False))
        return tuple(
            self.task.own_gradient(index, v, site.output, e)
            for index, (v, site, e) in enumerate(zip([self.task.x, *moved], self.sites, errors, strict=True))
        )


def look_at(task: Task, sites: tuple[Around, ...], deltas: Deltas) -> Look:
    """Errors and descent direction of a batch.

    Args:
        task: the batch.
        sites: its layers around the feed-forward pass.
        deltas: distances of v_1..v_{L-1} from it; None for a layer that has not moved.
    """
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
    return curvature_of(lambda deltas: look_at(few, seen, deltas).descent, start)


def _minus(a: PyTree, b: PyTree) -> PyTree:
    """a - b where None is an exact zero."""
    if b is None:
        return a
    return jax.tree.map(jnp.negative, b) if a is None else subtract(a, b)


def _moved(output: PyTree, delta: PyTree) -> PyTree:
    return widened(output) if delta is None else add(widened(output), delta)

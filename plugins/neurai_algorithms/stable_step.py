"""Stable steps for relaxations: descent diverges where step times curvature of the energy exceeds 2.

The curvature is estimated before the first sweep, on a few examples of the batch. The documented step is used unchanged
as long as the product leaves a margin; otherwise a smaller one, well inside the bound, replaces it. Where the curvature
changes as activities move, every move gives a new estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar
from neurai_core.curvature import curvature_of_each, largest_curvature, squares_per_example

ITERATIONS = 4
MOST = 8  # examples of a batch that are examined, one in eight of a small batch; others are up to twice as curved
ALLOWED = 1.5  # step times curvature up to which a step is left unchanged
SAFE = 1.0  # step times curvature of the step that replaces it
GROWTH = 1.5  # steps adapted to past moves grow by at most this factor per sweep
MATTERS = 1e-6  # a layer that moves less than this fraction of all layers shows other layers' moves, or rounding


def curvature_of(
    uphill: Callable[[PyTree], PyTree], at: PyTree, rows: int | None = None, *, reverse: bool = False
) -> Scalar:
    """The largest curvature of an energy, from its derivatives.

    Args:
        uphill: activities -> derivatives of the energy with respect to them.
        at: activities, with the batch axis first, or elsewhere if ``rows`` gives its length.
        rows: number of examples. Where the first axis of an activity is that of a loop or of time, all
            examples are treated as one.
        reverse: whether only reverse mode is available.
    """
    uphill, at = _by_example(uphill, at, rows)
    return largest_curvature(uphill, at, ITERATIONS, reverse=reverse)


def _by_example(
    uphill: Callable[[PyTree], PyTree], at: PyTree, rows: int | None
) -> tuple[Callable[[PyTree], PyTree], PyTree]:
    """Derivatives and activities with an axis in front along which examples do not act on each other."""
    if rows is None or all(leaf.shape[0] == rows for leaf in jax.tree.leaves(at)):
        return uphill, at

    def together(one: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[None], uphill(jax.tree.map(lambda leaf: leaf[0], one)))

    return together, jax.tree.map(lambda leaf: leaf[None], at)


class Curvature(NamedTuple):
    """Curvature of the energy of a network.

    Attributes:
        largest: the largest, which decides whether documented steps are taken.
        each: one for every activity, 1 over the step that it takes otherwise; not computed while all of them stay at
            the documented step.
        longest: the largest documented step of all sweeps.
    """

    largest: Scalar
    each: PyTree
    longest: Any

    @property
    def shrinks(self) -> Scalar:
        """Whether the documented step is too large."""
        return self.longest * self.largest > ALLOWED

    def steps(self, eta: Any) -> PyTree:
        """The documented step, bit for bit, or a smaller one for every activity that is too curved for it."""
        return jax.tree.map(
            lambda c: jnp.where(eta * self.largest > ALLOWED, jnp.minimum(eta, SAFE / c), eta), self.each
        )

    def own_steps(self, eta: Any) -> PyTree:
        """The documented step, bit for bit; or, if it is too large, the largest safe one of every activity.

        Of a schedule only the shape is then left: its largest step counts as 1.

        >>> steep = Curvature(jnp.asarray(100.0), {"h": jnp.asarray(4.0)}, 0.2)
        >>> float(steep.own_steps(0.2)["h"]), float(steep.own_steps(0.1)["h"])
        (0.25, 0.125)
        """
        share = eta / jnp.where(self.shrinks, self.longest, 1)
        return jax.tree.map(lambda c: jnp.where(self.shrinks, share * (SAFE / c), eta), self.each)


def curvature_of_activities(
    uphill: Callable[[PyTree], PyTree], at: PyTree, eta: Any, n: int, rows: int, *, reverse: bool
) -> Curvature:
    """The curvature that limits the steps of activities which need not move alike.

    Args:
        uphill: activities -> derivatives of the energy with respect to them.
        at: activities, one leaf for each, with the batch axis first or elsewhere, as in `curvature_of`.
        eta: the documented step, a number or a schedule over n sweeps.
        n: number of sweeps.
        rows: number of examples.
        reverse: whether only reverse mode is available.
    """
    uphill, at = _by_example(uphill, at, rows)
    largest = largest_curvature(uphill, at, ITERATIONS, reverse=reverse)
    longest = jnp.max(jax.vmap(eta)(jnp.arange(n))) if callable(eta) else eta
    each = jax.lax.cond(
        longest * largest > ALLOWED,
        lambda: curvature_of_each(uphill, at, ITERATIONS, reverse=reverse),
        lambda: jax.tree.map(lambda leaf: largest, at),
    )
    return Curvature(largest, each, longest)


def looked_at(batch: int) -> int:
    """Number of examples of a batch that are examined.

    >>> looked_at(1), looked_at(20), looked_at(128)
    (1, 3, 8)
    """
    return min(MOST, -(-batch // 8))


def limited(eta: Any, curvature: Scalar | None) -> Any:
    """The documented step, bit for bit, or a smaller one where the energy is too curved for it.

    >>> float(limited(0.1, jnp.asarray(10.0))), float(limited(0.1, jnp.asarray(50.0)))
    (0.10000000149011612, 0.019999999552965164)
    """
    return eta if curvature is None else jnp.where(eta * curvature > ALLOWED, SAFE / curvature, eta)


def limited_steps(eta: Any, curvature: Scalar | None) -> Callable[[Any], Any]:
    """Sweep -> step, for a number or a schedule over the sweeps."""
    if callable(eta):
        return lambda t: limited(eta(t), curvature)
    step = limited(eta, curvature)
    return lambda t: step


def step_scale(eta: Any, n: int, curvature: Curvature | Scalar | None) -> Scalar:
    """The smallest factor on the documented step, a number or a schedule over n sweeps."""
    if curvature is None:
        return jnp.ones(())
    steps = jax.vmap(eta)(jnp.arange(n)) if callable(eta) else jnp.asarray(eta)
    taken = curvature.steps(steps) if isinstance(curvature, Curvature) else limited(steps, curvature)
    return jnp.min(jnp.stack([_share(each, steps) for each in jax.tree.leaves(taken)]))


def _share(step: Any, eta: Any) -> Any:
    """The factor on the documented step; 1 where that step is 0, as at the end of a schedule."""
    return jnp.where(eta == 0, 1, step / jnp.where(eta == 0, 1, eta))


class Moves(NamedTuple):
    """Step limits learned from the moves of a relaxation so far.

    Attributes:
        directions: of the last move, one tree per layer, batch axis first.
        steps: of the last move, one number per example for each layer.
        limits: the largest steps that are safe, likewise.
        careful: the examples for which a documented step was too large.
        scale: the smallest factor on a documented step.
    """

    directions: tuple[PyTree, ...]
    steps: tuple[Scalar, ...]
    limits: tuple[Scalar, ...]
    careful: Scalar
    scale: Scalar


def first_moves(limits: tuple[Scalar, ...], at: tuple[PyTree, ...]) -> Moves:
    """State before the first move: zeros, and the limits of the initial curvature.

    Args:
        limits: the largest safe step of every layer.
        at: activities, one tree per layer, batch axis first.
    """
    rows = jax.tree.leaves(at[0])[0].shape[0]
    none = (jnp.zeros(rows, limits[0].dtype),) * len(at)
    each = tuple(jnp.full(rows, limit) for limit in limits)
    return Moves(jax.tree.map(jnp.zeros_like, at), none, each, jnp.zeros(rows, bool), jnp.ones(()))


def momentum(t: Any) -> Any:
    """The part of the last move that the next one repeats, after t sweeps (Nesterov 1983).

    >>> momentum(0), momentum(6)
    (0.0, 0.6666666666666666)
    """
    return t / (t + 3)


def secant_steps(
    eta: Any,
    curvature: Scalar,
    directions: tuple[PyTree, ...],
    last: Moves,
    *,
    most: Any = None,
    along: tuple[PyTree, ...] | None = None,
) -> tuple[tuple[Scalar, ...], Moves]:
    """One step per example and layer, for energies whose curvature changes as activities move.

    A move s and the change y of the gradient along it give the curvature |y| / |s|. An example keeps the documented
    steps until one is too large. From then on layer l takes ``SAFE |s_l| / |y_l|``, at most the documented
    step and `GROWTH` times its last limit. With the blocks H_lk of second derivatives, |y_l| is at most the sum over
    k of |H_lk| |s_k|; if that holds with equality, these steps keep step times curvature at or below SAFE (the bound of
    Collatz and Wielandt).

    Args:
        eta: the documented step of this sweep.
        curvature: at the start.
        directions: descent directions, one tree per layer; None for a layer that no signal has reached.
        last: the moves so far.
        most: largest step of a layer that is careful; the documented one by default.
        along: the directions of the last move, if they were not those of descent.

    Returns:
        The steps, each of shape (B,), and the moves including this one.
    """
    known = tuple(old if new is None else new for new, old in zip(directions, last.directions, strict=True))
    pairs = zip(known, last.directions, strict=True)
    bent = [squares_per_example(jax.tree.map(jnp.subtract, new, old)) for new, old in pairs]
    along = last.directions if along is None else along
    moved = [jnp.square(step) * squares_per_example(one) for one, step in zip(along, last.steps, strict=True)]
    together = sum(moved)
    careful = last.careful | (eta * curvature > ALLOWED) | (eta * _secant(sum(bent), together) > ALLOWED)
    limits = tuple(
        jnp.where(s > MATTERS**2 * together, jnp.minimum(GROWTH * old, SAFE / _at_least_tiny(_secant(y, s))), old)
        for y, s, old in zip(bent, moved, last.limits, strict=True)
    )
    most = eta if most is None else most
    steps = tuple(jnp.where(careful, jnp.minimum(most, limit), eta) for limit in limits)
    scale = jnp.minimum(last.scale, jnp.min(_share(jnp.stack(steps), eta)))
    return steps, Moves(known, steps, limits, careful, scale)


def _at_least_tiny(number: Scalar) -> Scalar:
    return jnp.maximum(number, jnp.finfo(number.dtype).tiny)


def _secant(bent: Any, moved: Any) -> Scalar:
    """|y| / |s| from their squares; 0 where nothing has moved."""
    return jax.lax.stop_gradient(jnp.sqrt(jnp.where(moved > 0, bent / jnp.where(moved > 0, moved, 1), 0)))

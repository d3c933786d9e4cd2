"""How large a step a relaxation stands: descent runs away where step times curvature of the energy is over 2.

The curvature is looked at before the first sweep, on a few examples of the batch. The documented step is taken as it
is while the product leaves a margin, and a smaller one, well inside, where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar
from neurai_core.curvature import largest_curvature

ITERATIONS = 4
MOST = 8  # examples of a batch that are looked at, one in eight of a small batch; others are up to twice as curved
ALLOWED = 1.5  # step times curvature up to which a step is left alone
SAFE = 1.0  # the same of the step that is taken instead


def curvature_of(uphill: Callable[[PyTree], PyTree], at: PyTree, rows: int | None = None) -> Scalar:
    """The largest curvature of an energy, from its derivatives.

    Args:
        uphill: activities -> derivatives of the energy by them.
        at: activities, batch axis first, or somewhere else where ``rows`` says how long it is.
        rows: number of examples. Where the first axis of an activity is another one, that of a loop or of time, all
            examples are taken for one.
    """
    if rows is None or all(leaf.shape[0] == rows for leaf in jax.tree.leaves(at)):
        return largest_curvature(uphill, at, ITERATIONS)

    def together(one: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[None], uphill(jax.tree.map(lambda leaf: leaf[0], one)))

    return largest_curvature(together, jax.tree.map(lambda leaf: leaf[None], at), ITERATIONS)


def looked_at(batch: int) -> int:
    """How many examples of a batch are looked at.

    >>> looked_at(1), looked_at(20), looked_at(128)
    (1, 3, 8)
    """
    return min(MOST, -(-batch // 8))


def limited(eta: Any, curvature: Scalar | None) -> Any:
    """The documented step, to the bit, or a smaller one where the energy is too curved for it.

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


def step_scale(eta: Any, n: int, curvature: Scalar | None) -> Scalar:
    """What the documented step, a number or a schedule over n sweeps, was multiplied by at the least."""
    if curvature is None:
        return jnp.ones(())
    steps = jax.vmap(eta)(jnp.arange(n)) if callable(eta) else jnp.asarray(eta)
    return jnp.min(limited(steps, curvature) / steps)

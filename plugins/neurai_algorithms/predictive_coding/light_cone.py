"""The light cone: the first sweeps of strict predictive coding, in which the error travels from outputs to inputs.

In sweep t nothing below layer L - t can have moved. What is still exactly zero is None, and is not computed; no number
differs from those of plain sweeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from neurai_algorithms.differences import Around, hidden_zero, zeros
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.task import Sweep
from neurai_core.arrays import PyTree
from neurai_core.relaxation import never, relax

UNROLLED_VISITS = 256  # layer visits in the cone beyond which stages of several sweeps share one compiled loop

Deltas = tuple[PyTree, ...]


class Spread(NamedTuple):
    """The state after some sweeps.

    Attributes:
        deltas: distances of v_1..v_{L-1} from the feed-forward pass; None for a layer that has not moved.
        carry: state of the mover.
        steps: sweeps taken.
    """

    deltas: Deltas
    carry: PyTree
    steps: Any


def spread(sites: tuple[Around, ...], config: PCConfig, sweep: Sweep, carry: PyTree) -> Spread:
    """Run the sweeps in which the signal travels from output to first layer, if they are treated separately.

    Args:
        sites: the layers around the feed-forward pass.
        config: settings.
        sweep: one sweep; with None for layers that have not moved.
        carry: initial state of the mover.
    """
    cone = config.light_cone and config.corrector is None and not config.energy_trace
    zero = hidden_zero(sites[-1].output)
    deltas: Deltas = tuple(None if cone else zeros(site.output, zero) for site in sites[:-1])
    state, reach = (deltas, carry), min(config.n - 1, len(deltas))
    # With tol these sweeps run apart even without a cone, so that it cannot end the relaxation before all layers move.
    stages = stages_of(reach) if cone else [] if never(config.tol) else [(0, reach)]

    def move(t: Any, state: tuple[Deltas, PyTree]) -> tuple[Deltas, PyTree]:
        return sweep(t, state)[0]

    move = jax.checkpoint(move) if config.remat else move
    for start, stop in stages:
        state = _stage(move, state, sites, start, stop)
    return Spread(*state, steps=reach if stages else 0)


def stages_of(reach: int) -> list[tuple[int, int]]:
    """Sweeps of the cone in stages: one sweep each, longer ones where unrolling would make too large a program.

    >>> stages_of(3)
    [(0, 1), (1, 2), (2, 3)]
    """
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
    reached = [filled(d, site.output, zero) for site, d in zip(sites[lowest:-1], deltas[lowest:], strict=True)]

    def step(t: Any, state: Any) -> Any:
        moved, carry = sweep(t + start, ((None,) * lowest + tuple(state[0]), state[1]))
        return list(moved[lowest:]), carry

    reached, carry = relax(step, (reached, carry), stop - start).state
    return (None,) * lowest + tuple(reached), carry


def filled(tree: PyTree, output: PyTree, zero: Any = 0) -> PyTree:
    """A distance or an error; zeros in place of None.

    Args:
        tree: the distance, or None.
        output: output of its layer, for the shape.
        zero: the zero to fill with.
    """
    return zeros(output, zero) if tree is None else tree

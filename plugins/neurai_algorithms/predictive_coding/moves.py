"""How the activities of a chain of layers move in a sweep: by documented or smaller steps, or by an optax corrector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import Around, add, hidden_zero, widened, zeros
from neurai_algorithms.predictive_coding.light_cone import Deltas, filled
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.stable_step import SAFE, first_moves, limited_steps, secant_steps, step_scale
from neurai_core.arrays import PyTree, Scalar, beside_batch, tree_scale
from neurai_core.optax_texts import made


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


def mover_around(sites: tuple[Around, ...], config: PCConfig, curvature: Scalar | None) -> Mover:
    """How activities move away from the feed-forward pass.

    Args:
        sites: the layers around it.
        config: settings.
        curvature: of the energy there, which limits the step; None for no limit.
    """
    if config.corrector is not None:
        return _correcting_mover(sites, config.corrector)
    if curvature is not None and not all(site.bounded for site in sites):
        return _watching_mover(sites, config, curvature)
    step = limited_steps(config.eta, curvature)

    def plain(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
        return _plain_move((step(t),) * len(deltas), sites, deltas, descent), carry

    return Mover((), plain, lambda carry: step_scale(config.eta, config.n, curvature))


def _correcting_mover(sites: tuple[Around, ...], corrector: Any) -> Mover:
    transformation = made(corrector) if isinstance(corrector, str) else corrector
    start = tuple(widened(site.output) for site in sites[:-1])

    def move(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
        uphill = jax.tree.map(jnp.negative, descent)
        updates, carry = transformation.update(uphill, carry, add(start, deltas))
        return add(deltas, updates), carry

    return Mover(transformation.init(start), move, lambda carry: jnp.ones(()))


def _watching_mover(sites: tuple[Around, ...], config: PCConfig, curvature: Scalar) -> Mover:
    """Adapt steps after each move, for layers whose curvature may grow away from the feed-forward pass."""
    eta = limited_steps(config.eta, None)
    around = sites[:-1]
    start = first_moves((SAFE / curvature,) * len(around), tuple(zeros(site.output) for site in around))

    def move(t: Any, deltas: Deltas, descent: Deltas, carry: PyTree) -> tuple[Deltas, PyTree]:
        steps, carry = secant_steps(eta(t), curvature, descent, carry)
        return _plain_move(steps, sites, deltas, descent), carry

    return Mover(start, move, lambda moves: moves.scale)


def _plain_move(steps: tuple[Any, ...], sites: tuple[Around, ...], deltas: Deltas, descent: Deltas) -> Deltas:
    zero = hidden_zero(sites[-1].output)
    return tuple(
        d if g is None else add(filled(d, site.output, zero), _scaled(g, step))
        for step, site, d, g in zip(steps, sites, deltas, descent, strict=False)
    )


def _scaled(tree: PyTree, step: Any) -> PyTree:
    """A tree times one number, or one per example."""
    if jnp.ndim(step) == 0:
        return tree_scale(tree, step)
    return jax.tree.map(lambda leaf: leaf * beside_batch(step, leaf), tree)

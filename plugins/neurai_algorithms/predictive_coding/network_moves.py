"""How the activities of a network move in a sweep: by documented or smaller steps, or by an optax corrector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import add, zeros
from neurai_algorithms.predictive_coding.network_task import NetworkTask
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.stable_step import (
    SAFE,
    Curvature,
    Moves,
    first_moves,
    limited_steps,
    momentum,
    secant_steps,
    step_scale,
)
from neurai_core.arrays import PyTree, Scalar, beside_batch, tree_scale
from neurai_core.optax_texts import made

Deltas = dict[str, jax.Array]
LARGEST = 1.0  # step; the curvature of an activity's own error is 1


class NetworkMover(NamedTuple):
    """How activities move.

    Attributes:
        begin: ``coordinates -> carry``, the initial state of a corrector.
        move: ``(t, coordinates, uphill, carry, origin) -> (coordinates, carry)``.
        scale: carry -> the smallest factor on the documented step.
    """

    begin: Callable[[PyTree], PyTree]
    move: Callable[..., tuple[PyTree, PyTree]]
    scale: Callable[[PyTree], Scalar]


def mover_for(task: NetworkTask, curvature: Curvature | None) -> NetworkMover:
    """How activities move away from the feed-forward pass.

    Args:
        task: the batch.
        curvature: of the energy there, which limits the steps; None for no limit.
    """
    config = task.config
    if curvature is not None and task.steps_are_watched:
        return _watching_mover(config, curvature, task.network.names)
    return NetworkMover(*accelerated(config, curvature), lambda carry: step_scale(config.eta, config.n, curvature))


def mover(config: PCConfig, curvature: Curvature | Scalar | None) -> tuple[Callable[..., PyTree], Callable[..., Any]]:
    """How coordinates move against the gradient of the energy.

    Args:
        config: settings.
        curvature: limits the step, or that of every coordinate; None for no limit.

    Returns:
        ``(begin, move)``: ``begin(coordinates) -> carry`` and ``move(t, coordinates, uphill, carry, origin=None) ->
        (coordinates, carry)``, with the origin from which coordinates are counted.
    """
    corrector = config.corrector
    if corrector is None:
        step = limited_steps(config.eta, None if isinstance(curvature, Curvature) else curvature)

        def plain(t: Any, at: PyTree, uphill: PyTree, carry: PyTree, origin: PyTree = None) -> tuple[PyTree, PyTree]:
            if not isinstance(curvature, Curvature):
                return add(at, tree_scale(uphill, -step(t))), carry
            steps = curvature.steps(step(t))
            return {name: v + tree_scale(uphill[name], -steps[name]) for name, v in at.items()}, carry

        return lambda at: (), plain
    transformation = made(corrector) if isinstance(corrector, str) else corrector

    def move(t: Any, at: PyTree, uphill: PyTree, carry: PyTree, origin: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, carry = transformation.update(uphill, carry, at if origin is None else add(origin, at))
        return add(at, updates), carry

    return transformation.init, move


def accelerated(
    config: PCConfig, curvature: Curvature | None
) -> tuple[Callable[..., PyTree], Callable[..., tuple[PyTree, PyTree]]]:
    """Like `mover`, with momentum if the documented step is too large; the state is the velocity p.

        p_k <- t/(t+3) p_k - dF/dv_k ,   v_k <- v_k + s_k p_k

    The steps s_k scale the largest curvature to 1. Momentum m is stable up to 2 (1 + m), so it costs no safety.
    """
    if curvature is None or config.corrector is not None:
        return mover(config, curvature)
    eta = limited_steps(config.eta, None)

    def move(t: Any, at: Deltas, uphill: Deltas, last: Deltas, origin: Any = None) -> tuple[Deltas, Deltas]:
        steps, part = curvature.own_steps(eta(t)), jnp.where(curvature.shrinks, momentum(t), 0)
        velocity = {name: tree_scale(last[name], part) - uphill[name] for name in at}
        return {name: v + tree_scale(velocity[name], steps[name]) for name, v in at.items()}, {**last, **velocity}

    return partial(jax.tree.map, jnp.zeros_like), move


def _watching_mover(config: PCConfig, curvature: Curvature, names: tuple[str, ...]) -> NetworkMover:
    """Like `accelerated`, with a step for every example and activity, adapted after each move.

    An example whose energy rises along its last move loses its momentum (O'Donoghue and Candès 2015).
    """
    eta = limited_steps(config.eta, None)

    def begin(at: Deltas) -> tuple[Moves, Deltas]:
        limits = tuple(SAFE / curvature.each[name] for name in names)
        rest = {name: zeros(at[name]) for name in names}
        return first_moves(limits, tuple(rest.values())), rest

    def move(
        t: Any, at: Deltas, uphill: Deltas, carry: tuple[Moves, Deltas], origin: Any = None
    ) -> tuple[Deltas, tuple[Moves, Deltas]]:
        downhill = tuple(-uphill[name] if name in uphill else None for name in names)
        known, last = carry
        most, along = jnp.maximum(LARGEST, eta(t)), tuple(last[name] for name in names)
        steps, known = secant_steps(eta(t), curvature.largest, downhill, known, most=most, along=along)
        beside = dict(zip(names, steps, strict=True))
        part = jnp.where(known.careful & _falls(uphill, last), momentum(t), 0)
        velocity = {name: beside_batch(part, v) * last[name] - uphill[name] for name, v in at.items()}
        after = {name: v + beside_batch(beside[name], v) * velocity[name] for name, v in at.items()}
        return after, (known, {**last, **velocity})

    return NetworkMover(begin, move, lambda carry: carry[0].scale)


def _falls(uphill: Deltas, last: Deltas) -> Scalar:
    """For every example, whether the energy still falls along the last move, ``(B,)``."""
    return sum(jnp.sum(g * last[name], range(1, g.ndim)) for name, g in uphill.items()) <= 0  # type: ignore[return-value]

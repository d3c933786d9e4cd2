"""How the activities of a two-way network move: by documented or smaller steps, or by those of ``eta_trace``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neurai_algorithms.bidirectional.task import Activities, BothWays
from neurai_algorithms.predictive_coding.task import Task
from neurai_algorithms.stable_step import limited
from neurai_core.arrays import Scalar, tree_scale
from neurai_core.optax_texts import made

POWER_STEPS = 8  # of the power iteration behind a curvature; a step size needs no more than some percent


def state_step(
    task: BothWays, curvatures: Callable[[], tuple[Scalar, ...]], curvature: Scalar | None = None
) -> optax.GradientTransformation:
    """What turns uphill gradients of the activities into moves: ``eta_trace`` with ``eta`` filled in.

    Args:
        task: the batch, for its settings.
        curvatures: of the activities, one per entry of the moved tuple; computed only when needed.
        curvature: of the whole energy, which limits the documented step; None for no limit.
    """
    trace = task.config.eta_trace
    if trace is None:
        return optax.sgd(limited(task.config.eta, curvature))
    step = made(trace.step) if isinstance(trace.step, str) else trace.step
    if hasattr(step, "update"):
        whole = step
    else:
        whole = optax.sgd(task.config.eta if step is None else step, momentum=trace.momentum or None)
    return optax.chain(_divided_by(curvatures()), whole) if trace.curvature else whole


def _divided_by(curvatures: tuple[Scalar, ...]) -> optax.GradientTransformation:
    def update(updates: Activities, state: Any, params: Any = None) -> tuple[Activities, Any]:
        parts = zip(updates, curvatures, strict=True)
        return tuple(tree_scale(u, 1 / h) for u, h in parts), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def hidden_curvatures(task: BothWays) -> Callable[[], tuple[Scalar, ...]]:
    """Of v_1..v_{L-1}."""
    return lambda: curvatures(task)[1:-1]


def curvatures(task: BothWays) -> tuple[Scalar, ...]:
    """Curvature of the energy along v_0..v_L for activations of slope 1, relative to that of an unconnected activity.

    ``(a_f (1 + |A_{l+1}|^2) + a_b (1 + |B_l|^2)) / (a_f + a_b)``, squares of spectral norms.
    """
    alpha_f, alpha_b = task.config.weights
    up = [*_squared_norms(task.up), jnp.zeros(())]
    down = [jnp.zeros(()), *_squared_norms(task.down)[::-1]]
    return tuple((alpha_f * (1 + a) + alpha_b * (1 + b)) / (alpha_f + alpha_b) for a, b in zip(up, down, strict=True))


def _squared_norms(task: Task) -> list[Scalar]:
    """Squared spectral norm of every layer's linear half."""
    norms, x = [], task.x[:1]
    for layer, params in zip(task.model.layers, task.params, strict=True):
        norms.append(_squared_norm(lambda v, f=layer.linear, p=params: f(p, v), x))  # type: ignore[misc]
        x = layer.apply(params, (), x)[0]
    return norms


def _squared_norm(affine: Callable[[jax.Array], jax.Array], x: jax.Array) -> Scalar:
    """The squared spectral norm, by power iteration from a fixed direction."""
    pull = jax.linear_transpose(affine, x)
    constant = affine(jnp.zeros_like(x))

    def again(_: Any, v: jax.Array) -> jax.Array:
        moved = pull(affine(v) - constant)[0]
        return moved / jnp.maximum(jnp.linalg.norm(moved), jnp.finfo(moved.dtype).tiny)

    v = jax.lax.fori_loop(0, POWER_STEPS, again, jax.random.normal(jax.random.key(0), x.shape, x.dtype))
    return jnp.sum(jnp.square(affine(v) - constant))

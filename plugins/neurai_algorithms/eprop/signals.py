"""The learning signals of e-prop, which reach the neurons of a stage from the readout in the same step.

Both forms of the rule share them. Each is a function ``run(model, params, feedback, sequence (T, B, D))`` that returns
the potentials of the readout (T, B, C), and a function from the errors of the currents into the readout (T, B, C) to
gradients like ``params``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.models.spiking import Leaky

Feedback: TypeAlias = tuple[jax.Array, ...] | None  # random weights (N, C) for every hidden stage


def signals_of(params: PyTree, feedback: Feedback, errors: jax.Array, gains: list[jax.Array]) -> list[jax.Array]:
    """The learning signals of all hidden stages, (..., N) each.

    Args:
        params: of the network.
        feedback: random weights that replace the readout's, and those of the stages between.
        errors: of the currents into the readout, (..., C).
        gains: derivatives of the spikes of all hidden stages by their currents, (..., N) each.
    """
    if feedback is not None:
        return [errors @ weights.T for weights in feedback]
    signals = [errors @ params[-1]["input"]["w"].T]
    for own, gain in zip(params[-2:0:-1], gains[:0:-1], strict=True):
        signals.insert(0, (signals[0] * gain) @ own["input"]["w"].T)
    return signals


def potentials(leak: Any, currents: jax.Array) -> jax.Array:
    """The potentials of the readout, from the currents into it, both (T, B, C)."""
    assert isinstance(leak, Leaky)

    def step(rest: Any, current: jax.Array) -> tuple[Any, jax.Array]:
        state = leak.charge({}, rest, current)
        return leak.settle({}, state, current), state["v"]

    return jax.lax.scan(step, leak.rest(currents.shape[1:], currents.dtype), currents)[1]


def errors_of_currents(leak: Any, errors: jax.Array) -> jax.Array:
    """The errors of the currents into the readout, from those of its potentials, both (T, B, C)."""
    _, transposed = jax.vjp(lambda currents: potentials(leak, currents), jnp.zeros_like(errors))
    of_currents: jax.Array = transposed(errors)[0]
    return of_currents

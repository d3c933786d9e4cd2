"""Sign-symmetry: back-propagation in which V = M sign(W) stands for the weights on the way back.

Liao, Leibo and Poggio 2016, arXiv:1510.05067. The sizes M are uniform, fixed random, or random for every batch. The
paper leaves their scale to normalizations; here their mean is that of the sizes of W, so that errors keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.sign_symmetry.spec import SignSymmetryConfig
from neurai_algorithms.way_back import Matrices, check_model, estimate_through, matrices_of, with_matrices
from neurai_core.arrays import PyTree, wide_float
from neurai_core.rule import Estimate, Rule, State, feedforward_predict, model_state_of, objective


def build(
    config: SignSymmetryConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "sign-symmetry"; with fixed magnitudes its state holds them.

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        check_model("sign-symmetry", model, params)
        return State(model_state, _drawn(params, key)) if config.magnitude == "fixed" else model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        back = with_matrices(params, feedback_of(config, params, state, key))
        found, model_state = estimate_through(score, model, params, back, model_state_of(state), batch, key)
        return found, State(model_state, state.own) if isinstance(state, State) else model_state

    return Rule(init, estimate, feedforward_predict)


def feedback_of(config: SignSymmetryConfig, params: PyTree, state: PyTree, key: Any = None) -> Matrices:
    """V of every matrix W.

    >>> w = jnp.array([[1.0, -3.0]])
    >>> feedback_of(SignSymmetryConfig(), {"w": w}, ())[0].tolist()
    [[2.0, -2.0]]
    """
    weights = matrices_of(params)
    magnitudes: Any = (1,) * len(weights)
    if config.magnitude != "uniform":
        magnitudes = state.own if config.magnitude == "fixed" else _drawn(params, jax.random.fold_in(key, 1))
    sizes = [jnp.mean(jnp.abs(w)) * jnp.asarray(config.scale, w.dtype) for w in weights]
    return tuple(jnp.sign(w) * size * m for w, size, m in zip(weights, sizes, magnitudes, strict=True))


def _drawn(params: PyTree, key: jax.Array) -> Matrices:
    """Magnitudes between 0 and 2 for every matrix."""
    weights = matrices_of(params)
    keys = jax.random.split(key, max(len(weights), 1))
    draws = (jax.random.uniform(k, w.shape, wide_float(w.dtype), 0, 2) for k, w in zip(keys, weights, strict=False))
    return tuple(draw.astype(w.dtype) for draw, w in zip(draws, weights, strict=True))

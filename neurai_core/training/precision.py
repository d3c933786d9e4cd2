"""Mixed precision: a rule computes in a short floating-point type; parameters, gradients and updates keep their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.rule import Estimate, Rule, State


def computing_in(rule: Rule, dtype: str) -> Rule:
    """A rule that computes in another floating-point type.

    Parameters, floating-point inputs and the rule's own state are rounded to it before every estimate and every
    prediction. What comes out has the types that the rule itself would give; the collections of the model, such as
    batch statistics, are not rounded.

    Args:
        rule: the rule to wrap.
        dtype: such as ``bfloat16``.

    Example:
        >>> import neurai_core as neurai
        >>> rule = computing_in(neurai.algorithm("bp", loss="squared_error"), "bfloat16")
        >>> batch = jnp.ones((1, 1)), jnp.zeros((1, 1))
        >>> estimate, _ = rule.estimate(lambda params, x: x @ params, jnp.array([[1.001]]), (), batch)
        >>> estimate.grads.tolist(), estimate.grads.dtype.name  # of 1.001, rounded to 1
        ([[1.0]], 'float32')
    """

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        x, y = batch
        given = _rounded_state(state, dtype)
        found, after = rule.estimate(model, _rounded(params, dtype), given, (_rounded(x, dtype), y), key=key)
        return Estimate(
            grads=jax.tree.map(lambda grad, param: grad.astype(param.dtype), found.grads, params),
            loss=_full(found.loss),
            accuracy=_full(found.accuracy),
            aux=_full(found.aux),
        ), jax.tree.map(_kept, after, given, state)

    def predict(model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
        return _full(rule.predict(model, _rounded(params, dtype), _rounded(x, dtype), _rounded_state(state, dtype)))

    return rule._replace(estimate=estimate, predict=predict)


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jax.typeof(leaf).dtype, jnp.floating))


def _rounded(tree: PyTree, dtype: str) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if _is_float(leaf) else leaf, tree)


def _rounded_state(state: PyTree, dtype: str) -> PyTree:
    """The state with what is the rule's own rounded; any other state is the collections of the model."""
    return state._replace(own=_rounded(state.own, dtype)) if isinstance(state, State) else state


def _full(tree: PyTree) -> PyTree:
    """Floating-point numbers with the usual number of digits, to be summed and compared."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.zeros(()).dtype) if _is_float(leaf) else leaf, tree)


def _kept(after: Any, given: Any, before: Any) -> Any:
    """A leaf of the state in its own type; where the rule changed nothing, without the rounding."""
    if not _is_float(before) or jax.typeof(given).dtype == jax.typeof(before).dtype:
        return after.astype(jax.typeof(before).dtype) if _is_float(before) else after
    return jnp.where(after == given, before, after.astype(jax.typeof(before).dtype))

"""The state that a rule carries of its own: after some estimates, shaken, and compared."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.rule import Rule, State
from neurai_core.testing.rule_subject import SmallProblem, compiled_estimate, estimated_by


def own_of(state: PyTree) -> PyTree:
    """The part of a state that is the rule's own; none if the state is the model's.

    >>> own_of(State((), 1.0)), own_of(())
    (1.0, ())
    """
    return state.own if isinstance(state, State) else ()


def state_after(built: Rule, problem: SmallProblem, state: PyTree) -> PyTree:
    """The state after two estimates of other batches: every label with the inputs of other rows."""
    x, y = problem.batch
    for rows in (1, 2):
        other = problem._replace(batch=(jax.device_put(np.roll(np.asarray(x), rows, axis=0)), y))
        _, state = estimated_by(compiled_estimate(built.estimate, problem.model), built, other, state)
    return state


def shaken(state: PyTree) -> PyTree:
    """The state with noise on every float of the rule's own, which keeps its sign and is no longer 0.

    >>> bool(own_of(shaken(State((), jnp.zeros(())))) > 0)
    True
    """

    def moved(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        leaf = np.asarray(leaf)
        noise = np.abs(np.random.default_rng(leaf.size).standard_normal(leaf.shape))
        return jax.device_put((leaf + np.where(leaf < 0, -0.1, 0.1) * noise).astype(leaf.dtype))

    return state._replace(own=jax.tree.map(moved, state.own)) if isinstance(state, State) else state


def same(one: PyTree, other: PyTree) -> bool:
    """Whether two states have one form and the same numbers.

    >>> same(jnp.zeros(2), jnp.zeros(2)), same(jnp.zeros(2), jnp.ones(2)), same((), (jnp.zeros(2),))
    (True, False, False)
    """
    forms: list[Any] = [jax.tree.structure(tree) for tree in (one, other)]
    if forms[0] != forms[1]:
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(_numbers(a), _numbers(b)) for a, b in pairs)


def _numbers(leaf: Any) -> np.ndarray:
    is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

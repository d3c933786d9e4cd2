"""Changes that are still zero but differentiated: activities that feel a force before they have moved."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from neurai_core.arrays import PyTree
from neurai_core.changes.arithmetic import as_dtype
from neurai_core.changes.rule import Changes


class Resting(NamedTuple):
    """A change that is known to be zero.

    Attributes:
        zeros: zeros in the shape of the value.
    """

    zeros: Any


def is_resting(change: Any) -> bool:
    """Whether a change is known to be zero."""
    return isinstance(change, Resting)


def all_rest(changes: PyTree) -> bool:
    """Whether all changes that are not None are known to be zero."""
    return all(map(is_resting, jax.tree.leaves(changes, is_leaf=is_resting)))


def awake(changes: PyTree) -> PyTree:
    """Changes as arrays, zero or not."""
    return jax.tree.map(lambda one: one.zeros if is_resting(one) else one, changes, is_leaf=is_resting)


def carried(rule: Partial, changes: Changes, *, costly: bool) -> list[Any]:
    """Changes through an operation: zeros stay zeros, and are not computed if that is costly.

    Args:
        rule: changes of the operands -> changes of the results.
        changes: those of the operands.
        costly: whether the operation is.
    """
    if not all_rest(changes):
        return rule(awake(changes))  # type: ignore[no-any-return]
    results = at_rest(rule, awake(changes)) if costly else rule(awake(changes))
    return [None if one is None else Resting(one) for one in results]


@jax.custom_jvp
def at_rest(function: Partial, changes: PyTree) -> PyTree:
    """A function of changes evaluated at zeros: zeros at no cost, with its derivative there.

    Args:
        function: zero where the changes are.
        changes: zeros.
    """
    # With a visible zero the compiler would fuse the surrounding operations differently, so this one is read.
    zero = jax.tree.leaves(changes)[0].ravel()[0]
    shapes = jax.eval_shape(function, changes)
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, as_dtype(zero, leaf.dtype)), shapes)


@at_rest.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[PyTree, PyTree]:
    function, changes = primals
    return at_rest(function, changes), jax.jvp(function, (changes,), (tangents[1],))[1]

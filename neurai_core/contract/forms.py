"""What a function of a rule returned: its form, to compare, and its description, for error messages."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, shape_text
from neurai_core.rule import Estimate


def form(tree: PyTree, *, dtypes: bool = True) -> Any:
    """Structure, shapes and dtypes of a tree, to compare."""
    avals = [aval(leaf) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), [(one.shape, one.dtype if dtypes else None) if one else None for one in avals]


def aval(leaf: Any) -> Any:
    """The abstract value of an array or number; None for anything else."""
    try:
        return jax.typeof(leaf)
    except TypeError:
        return None


def is_real_scalar(value: Any) -> bool:
    """Whether a value is one real number, in an array of shape () or not."""
    found = aval(value) if jax.tree_util.all_leaves([value]) else None
    return (
        found is not None
        and found.shape == ()
        and jnp.issubdtype(found.dtype, jnp.number)
        and not jnp.issubdtype(found.dtype, jnp.complexfloating)
    )


def text(tree: PyTree) -> str:
    """Shapes and dtypes in at most a line and a half."""
    shown = jax.tree.map(lambda leaf: aval(leaf) or leaf, tree)
    shapes = shape_text(shown)
    return shapes if len(shapes) < 200 else f"{shapes[:200]}..."


def kind(value: Any) -> str:
    """A description of an object in two or three words."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Estimate):
        return "an Estimate alone"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return text(value) if aval(value) is not None else f"an object of type {type(value).__name__}"


def words(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__

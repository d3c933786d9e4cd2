"""Helpers for arrays and trees of arrays, shared by all numerical modules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.errors import SettingsError

PyTree: TypeAlias = Any
Scalar: TypeAlias = jax.Array
Shape: TypeAlias = tuple[int, ...]
Elementwise: TypeAlias = Callable[[jax.Array], jax.Array]


def default_float() -> Any:
    """The float type JAX creates by default: float32, or float64 when x64 is enabled.

    >>> str(default_float())
    'float32'
    """
    return jnp.zeros(()).dtype


def float_type(params: PyTree) -> Any:
    """The float type of parameters: that of the first float leaf, or the default one if there is none.

    >>> str(float_type({"n": 3, "w": jnp.ones(2, jnp.bfloat16)})), str(float_type(()))
    ('bfloat16', 'float32')
    """
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype"))
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)), default_float())


def wide_float(dtype: Any) -> Any:
    """The float type for times and random draws computed from a dtype: at least 32 bits.

    >>> [str(wide_float(dtype)) for dtype in ("bfloat16", "uint8", "float64")]
    ['float32', 'float32', 'float64']
    """
    return jnp.promote_types(dtype, jnp.float32)


def normal(key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
    """Normal random numbers, drawn in at least 32 bits and then rounded.

    >>> normal(jax.random.key(0), (2, 3), "bfloat16").shape
    (2, 3)
    """
    return jax.random.normal(key, shape, wide_float(dtype)).astype(dtype)


def whole_number(value: Any) -> int | None:
    """A Python, NumPy or JAX integer as a Python int; None for anything else, booleans included.

    >>> whole_number(jnp.int32(5)), whole_number(5.0), whole_number(True)
    (5, None, None)
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def check_at_least_zero(owner: str, **numbers: Any) -> None:
    """Check that no number is below 0. Traced numbers, and schedules, are not checked.

    Args:
        owner: whose numbers they are, for the message.
        **numbers: numbers or arrays by name.

    Raises:
        SettingsError: one of them is below 0 or NaN.

    >>> check_at_least_zero("Squared", precision=jnp.array([1.0, 0.0]))
    """
    _check(owner, numbers, lambda value: value >= 0, "0 or more")


def check_above_zero(owner: str, **numbers: Any) -> None:
    """Check that every number is above 0, see `check_at_least_zero`.

    >>> check_above_zero("Laplace", scale=0.0)
    Traceback (most recent call last):
    neurai_core.errors.SettingsError: Laplace: scale=0.0, expected more than 0.
    """
    _check(owner, numbers, lambda value: value > 0, "more than 0")


def _check(owner: str, numbers: Mapping[str, Any], holds: Callable[[Any], Any], expected: str) -> None:
    for name, number in numbers.items():
        if isinstance(number, jax.core.Tracer) or callable(number):
            continue
        if not np.all(holds(np.asarray(number))):
            raise SettingsError(f"{owner}: {name}={number}, expected {expected}.")


def tree_dot(a: PyTree, b: PyTree) -> Scalar:
    """Inner product of two trees of equal structure.

    >>> float(tree_dot({"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}))
    3.0
    """
    products = jax.tree.map(lambda p, q: jnp.vdot(p, q), a, b)
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))


def tree_norm(tree: PyTree) -> Scalar:
    """Euclidean norm over all entries of a tree.

    >>> float(tree_norm([jnp.array([3.0]), jnp.array([4.0])]))
    5.0
    """
    return jnp.sqrt(tree_dot(tree, tree))


def tree_scale(tree: PyTree, factor: Any) -> PyTree:
    """Every entry of a tree times one factor, each leaf keeping its dtype.

    >>> tree_scale({"w": jnp.ones(2)}, 3.0)["w"].tolist()
    [3.0, 3.0]
    """
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), tree)


def beside_batch(numbers: jax.Array, leaf: jax.Array) -> jax.Array:
    """One number per example, shaped and typed to go with an array whose batch axis comes first.

    >>> beside_batch(jnp.ones(4), jnp.ones((4, 3, 2))).shape
    (4, 1, 1)
    """
    return jnp.reshape(numbers.astype(leaf.dtype), (-1,) + (1,) * (leaf.ndim - 1))


def batch_size(x: PyTree) -> int:
    """Length of the leading axis of the first array of a batch.

    >>> batch_size(jnp.zeros((7, 2)))
    7
    """
    return int(jax.tree.leaves(x)[0].shape[0])


def shape_text(tree: PyTree) -> str:
    """Shapes and dtypes of a tree in one short line, for error messages.

    >>> shape_text({"b": jnp.zeros(2), "w": jnp.zeros((3, 2))})
    "{'b': float32[2], 'w': float32[3,2]}"
    """
    text = jax.tree.map(_Literal, tree)
    return repr(text)


class _Literal:
    """Prints an array as ``float32[3,2]``."""

    def __init__(self, leaf: Any) -> None:
        shape: Sequence[int] = getattr(leaf, "shape", ())
        name = getattr(getattr(leaf, "dtype", None), "name", type(leaf).__name__)
        self.text = f"{name}[{','.join(map(str, shape))}]"

    def __repr__(self) -> str:
        return self.text

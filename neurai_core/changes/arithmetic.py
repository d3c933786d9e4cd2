"""Changes of values, and how a value and its change make the moved value.

The change of a float is a float of at least 32 bits, that of an integer an integer, that of a boolean whether it
differs. None is a change that is zero by the structure of the program.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import wide_float


def change_dtype(dtype: Any) -> Any:
    """The dtype of changes of a value.

    >>> [str(change_dtype(dtype)) for dtype in ("bfloat16", "float64", "int32", "bool")]
    ['float32', 'float64', 'int32', 'bool']
    """
    return wide_float(dtype) if jnp.issubdtype(dtype, jnp.inexact) else np.dtype(dtype)


def as_dtype(x: Any, dtype: Any) -> Any:
    """A value in a dtype; the same object if it already has that dtype."""
    return x if x.dtype == dtype else jax.lax.convert_element_type(x, dtype)


def wide(x: Any) -> Any:
    """A value in the dtype of its changes."""
    return as_dtype(x, change_dtype(x.dtype))


def moved(x: Any, change: Any) -> Any:
    """The value after a change, in the dtype of the value."""
    if change is None:
        return x
    if x.dtype == bool:
        return jnp.not_equal(x, change)
    return as_dtype(wide(x) + change, x.dtype)


def apart(new: Any, old: Any) -> Any:
    """The change from one value to another, as a plain difference."""
    return jnp.not_equal(new, old) if new.dtype == bool else wide(new) - wide(old)


def distance(a: Any, b: Any) -> Any:
    """a - b, 0 where both are the same infinity."""
    return jnp.where(a == b, 0, wide(a) - wide(b))


def plus(a: Any, b: Any) -> Any:
    """The sum of two changes."""
    if a is None or b is None:
        return b if a is None else a
    return jnp.not_equal(a, b) if a.dtype == bool else a + b


def no_change(aval: Any) -> Any:
    """Zeros for a value of some shape and dtype."""
    return jnp.zeros(aval.shape, change_dtype(aval.dtype))


def filled(change: Any, aval: Any) -> Any:
    """A change, zeros in place of None."""
    return no_change(aval) if change is None else change

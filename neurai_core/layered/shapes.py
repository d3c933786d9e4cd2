"""Shapes and types on the way through a layer, and errors that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, float_type, shape_text
from neurai_core.errors import ModelError
from neurai_core.layered.layer import Layer


def in_floats(x: PyTree, params: PyTree) -> PyTree:
    """Convert integers and booleans to the float type of the parameters, or the default one if there are none.

    >>> in_floats(jnp.arange(2), {"w": jnp.ones(3, "bfloat16")}).dtype
    dtype(bfloat16)
    """
    dtype = float_type(params)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if _is_whole(leaf) else leaf, x)


def _is_whole(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def output_shape(layer: Any, params: PyTree, model_state: PyTree, input_shape: Shape) -> Shape:
    """Shape of one example after a layer, or a chain of layers, without computing.

    Raises:
        ModelError: the output of the layer is empty or not a single array.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jax.dtypes.canonicalize_dtype(float_type(params)))
    y = jax.eval_shape(lambda p, s, x: layer.apply(p, s, x)[0], params, model_state, x)
    check_not_empty(y, x)
    return tuple(one_array(y).shape[1:])


def check_not_empty(y: PyTree, x: PyTree) -> None:
    """Raise ModelError if a layer leaves nothing, y, of an input that was not empty, x."""
    if any(0 in leaf.shape for leaf in jax.tree.leaves(y)) and not any(0 in leaf.shape for leaf in jax.tree.leaves(x)):
        raise ModelError(
            f"nothing is left of an input of shape {shape_text(x)}: the output has shape {shape_text(y)}.",
            hint='Use a smaller window, kernel or stride, padding="SAME", or larger images.',
        )


def one_array(activity: PyTree) -> Any:
    """Check that a layer returned a single array.

    Raises:
        ModelError: it is a tuple or another tree.

    >>> one_array(jnp.ones(3)).shape
    (3,)
    """
    if not jax.tree_util.all_leaves([activity]):
        raise ModelError(
            f"it returns {shape_text(activity)}, expected one array per layer.",
            hint="Join the arrays with jnp.concatenate, or put the layers that exchange them into one block.",
        )
    return activity


@contextmanager
def naming(index: int, layer: Layer, shape: Any, *, what: str = "Layer") -> Iterator[None]:
    """Turn errors inside a layer into one sentence that names the layer."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{what} {index} ({layer.name}): {error.message}", hint=error.hint) from error
    except jax.errors.JAXTypeError:  # of what is traced, not of its shape
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{what} {index} ({layer.name}) cannot take an input of shape {shape}: {reason}",
            hint="Check the width of the layer before it and the shape of the data.",
        ) from error

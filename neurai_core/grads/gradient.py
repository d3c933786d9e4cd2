"""``grad``: `jax.grad` and `jax.value_and_grad` in one, with ``reduce_axes`` in its documented meaning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Any

import jax

from neurai_core.arrays import PyTree
from neurai_core.errors import UsageError


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence[Hashable] = (),
    return_fun_value: bool = False,
) -> Callable[..., Any]:
    """Create a function that evaluates the gradient of ``fun``.

    Args:
        fun: returns a scalar, or ``(scalar, aux)`` when ``has_aux``.
        argnums: position or positions to differentiate with respect to.
        has_aux: whether ``fun`` returns a pair; its second part is returned, never differentiated.
        holomorphic: whether ``fun`` is holomorphic; inputs and outputs must then be complex.
        allow_int: whether integer inputs may be differentiated (their gradient has dtype float0).
        reduce_axes: names of mapped axes (of ``jax.vmap(..., axis_name=)`` or ``jax.shard_map``) over which the
            arguments at ``argnums`` are shared: their gradient is summed over these axes with `jax.lax.psum`, the
            total gradient. Without it the gradient under ``vmap`` is the one of each mapped element.
        return_fun_value: whether to return the value of ``fun`` too.

    Returns:
        A function of the same arguments that returns ``grad``, or

        * ``(grad, aux)`` with ``has_aux``,
        * ``(value, grad)`` with ``return_fun_value``,
        * ``((value, aux), grad)`` with both.

    Raises:
        UsageError: ``fun`` is not callable, or an argument at ``argnums`` is missing.

    Example:
        >>> grad(lambda x: x**2)(3.0).item()
        6.0
        >>> value, slope = grad(lambda x: x**2, return_fun_value=True)(3.0)
        >>> value.item(), slope.item()
        (9.0, 6.0)
        >>> import jax.numpy as jnp
        >>> total = grad(lambda w, x: w * x, reduce_axes=("batch",))
        >>> jax.vmap(total, in_axes=(None, 0), axis_name="batch")(2.0, jnp.arange(4.0)).tolist()
        [6.0, 6.0, 6.0, 6.0]
    """
    if not callable(fun):
        raise UsageError(f"grad got a {type(fun).__name__}, expected a function.", hint="grad(lambda x: x**2)(3.0)")
    axes = (reduce_axes,) if isinstance(reduce_axes, str) else tuple(reduce_axes)
    value_and_grad = jax.value_and_grad(fun, argnums, has_aux=has_aux, holomorphic=holomorphic, allow_int=allow_int)

    @wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = value_and_grad(*_per_element(args, argnums, axes), **kwargs)
        grads = jax.lax.psum(grads, axes) if axes else grads
        if return_fun_value:
            return value, grads
        return (grads, value[1]) if has_aux else grads

    return gradient


def _per_element(args: tuple[Any, ...], argnums: int | Sequence[int], axes: tuple[Hashable, ...]) -> list[Any]:
    """Mark shared arguments as varying over the axes, so that no sum is taken before this one."""
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for position in positions:
        if not -len(args) <= position < len(args):
            raise UsageError(
                f"grad differentiates argument {position} and was called with {len(args)} positional arguments.",
                hint="Pass the arguments named by argnums by position.",
            )
    marked = list(args)
    for position in positions if axes else ():
        marked[position] = jax.tree.map(lambda leaf: _varying(leaf, axes), args[position])
    return marked


def _varying(leaf: PyTree, axes: tuple[Hashable, ...]) -> PyTree:
    # Only shard_map tracks what varies over an axis; under vmap every argument is per element already.
    manual = jax.sharding.get_abstract_mesh().manual_axes
    missing = tuple(axis for axis in axes if axis in manual and axis not in jax.typeof(leaf).manual_axis_type.varying)
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

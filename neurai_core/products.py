"""Count the floating-point operations of a program's matrix products and convolutions, from its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax


class Products(NamedTuple):
    """The matrix products and convolutions of a program.

    Attributes:
        flops: floating-point operations, two per multiplication and addition.
        exact: False if the data decide how often a loop runs; such a loop is counted once.
    """

    flops: float
    exact: bool


def products(function: Callable[..., Any], *arguments: Any) -> Products:
    """Count the matrix products and convolutions of a function; elementwise work does not count.

    Loops count as often as they run. Of the branches of a condition, the most expensive one counts.

    Args:
        function: any function that JAX can trace.
        *arguments: its arguments, arrays or ``jax.ShapeDtypeStruct``.

    >>> import jax.numpy as jnp
    >>> products(lambda a, b: jnp.tanh(a @ b), jnp.ones((2, 3)), jnp.ones((3, 4)))
    Products(flops=48.0, exact=True)
    >>> products(lambda a: jax.lax.while_loop(lambda a: a[0, 0] > 1, lambda a: a @ a, a), jnp.ones((2, 2)))
    Products(flops=16.0, exact=False)
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return Products(_of_jaxpr(closed.jaxpr), not any(_open_ended(closed.jaxpr)))


def product_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations alone of `products`."""
    return products(function, *arguments).flops


def _of_jaxpr(jaxpr: Any) -> float:
    return sum((_of_equation(equation) for equation in jaxpr.eqns), start=0.0)


def _of_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / outputs
    if name == "cond":
        return max(_of_jaxpr(branch.jaxpr) for branch in params["branches"])
    return params.get("length", 1) * sum(map(_of_jaxpr, _inner(params)), start=0.0)


def _open_ended(jaxpr: Any) -> Iterator[bool]:
    """For every ``while`` at any depth, whether it holds products."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            yield _of_equation(equation) > 0
        for inside in _inner(equation.params):
            yield from _open_ended(inside)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation runs: of a loop, a condition, a call, or a custom derivative."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns"):
                yield one
            elif hasattr(getattr(one, "jaxpr", None), "eqns"):
                yield one.jaxpr

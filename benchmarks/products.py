"""Count the floating-point operations of a program's matrix products and convolutions, from its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def product_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Two per multiplication and addition; loops count as often as they run, elementwise work not at all.

    A loop whose length only the data decide (``while``) counts once, and of the branches of a condition the dearest.

    >>> import jax.numpy as jnp
    >>> product_flops(lambda a, b: jnp.tanh(a @ b), jnp.ones((2, 3)), jnp.ones((3, 4)))
    48.0
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


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


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation runs: of a loop, a call, or a custom derivative."""
    for value in params.values():
        if hasattr(value, "eqns"):
            yield value
        elif hasattr(getattr(value, "jaxpr", None), "eqns"):
            yield value.jaxpr

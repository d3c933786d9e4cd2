"""Count the floating-point operations of a program's matrix products and convolutions, from its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
    """Count the matrix products and convolutions that the results of a function need; other work does not count.

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
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    flops, _ = _of_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return Products(flops, not any(_open_ended(jaxpr)))


def product_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations alone of `products`."""
    return products(function, *arguments).flops


# ---------------------------------------------------------------------------- counting what is used

Counted = tuple[float, list[bool]]  # operations, and which inputs they need


def _of_jaxpr(jaxpr: Any, wanted: Sequence[bool]) -> Counted:
    """Count what the wanted outputs need: compilers leave out the rest."""
    live = {var for var, want in zip(jaxpr.outvars, wanted, strict=True) if want and not _is_literal(var)}
    flops = 0.0
    for equation in reversed(jaxpr.eqns):
        used = [var in live for var in equation.outvars]
        if any(used) or equation.effects:
            own, needed = _of_equation(equation, used)
            flops += own
            live |= {var for var, need in zip(equation.invars, needed, strict=True) if need and not _is_literal(var)}
    return flops, [var in live for var in jaxpr.invars]


def _of_equation(equation: Any, used: Sequence[bool]) -> Counted:
    name, params, everything = equation.primitive.name, equation.params, [True] * len(equation.invars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * _size(equation.outvars[0]) * math.prod(left[axis] for axis in contracted), everything
    if name == "conv_general_dilated":
        outputs = equation.invars[1].aval.shape[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * _size(equation.outvars[0]) * _size(equation.invars[1]) / outputs, everything
    if name == "scan":
        return _of_scan(equation, used)
    inside = list(_inner(params))
    if name == "cond":
        return max(_of_jaxpr(branch, used)[0] for branch in inside), everything
    if len(inside) == 1 and _is_call(inside[0], equation):
        return _of_jaxpr(inside[0], used)
    return sum((_of_jaxpr(one, [True] * len(one.outvars))[0] for one in inside), start=0.0), everything


def _of_scan(equation: Any, used: Sequence[bool]) -> Counted:
    """The body as often as it runs; what is carried is wanted if a later iteration needs it."""
    (body,) = _inner(equation.params)
    # The parameters of a scan differ between versions of JAX. What it slices or stacks has one axis more outside of it.
    carry = len(body.outvars) - _sliced(equation.outvars, body.outvars)
    first = len(body.invars) - _sliced(equation.invars, body.invars) - carry
    wanted = list(used)
    while True:
        flops, needed = _of_jaxpr(body, wanted)
        carried = [want or need for want, need in zip(wanted[:carry], needed[first : first + carry], strict=True)]
        if carried == wanted[:carry]:
            return equation.params["length"] * flops, needed
        wanted[:carry] = carried


def _sliced(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in zip(outside, inside, strict=True))


def _is_call(inside: Any, equation: Any) -> bool:
    """Whether the inputs and outputs of a program are those of its equation, in order."""
    if equation.primitive.name == "while":
        return False
    return len(inside.invars) == len(equation.invars) and len(inside.outvars) == len(equation.outvars)


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")


def _size(atom: Any) -> int:
    return math.prod(atom.aval.shape)


# ---------------------------------------------------------------------------- loops without a length


def _open_ended(jaxpr: Any) -> Iterator[bool]:
    """For every ``while`` at any depth, whether it holds products."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            yield _of_equation(equation, [True] * len(equation.outvars))[0] > 0
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

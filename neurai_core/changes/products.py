"""Products, quotients and powers: the product rule of differences, (a + u)(b + v) - a b = u (b + v) + a v."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import as_dtype, moved, wide
from neurai_core.changes.rule import Changes, Rule, Values, bind, derivative_of, exact
from neurai_core.program_convolutions import convolution_of
from neurai_core.programs import Equation


def product(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """Elementwise."""

    def change(a: Any, b: Any, changes: Changes) -> list[Any]:
        return [_by_parts(a, b, changes, lambda x, y: x * y)]

    a, b = map(wide, values)
    return Partial(change, a if moving[1] else None, b if moving[0] else None)


def matrix_product(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """A matrix product or a convolution, in the dtype of the values."""
    dtypes = [value.dtype for value in values]

    def times(x: Any, y: Any) -> Any:
        return wide(_multiplied(equation, *map(as_dtype, (x, y), dtypes)))

    def change(values: Values, _: Any, changes: Changes) -> list[Any]:
        a, b = values
        return [_by_parts(a, b, changes, times)]

    if all(moving):  # two products in the backward pass, where the separate terms would need three
        return Partial(exact(derivative_of(partial(bind, equation)), change), tuple(values), ())
    return Partial(change, (values[0] if moving[1] else None, values[1] if moving[0] else None), ())


def _multiplied(equation: Equation, x: Any, y: Any) -> Any:
    convolution = convolution_of(equation)
    return bind(equation, x, y)[0] if convolution is None else convolution(x, y)


def _by_parts(a: Any, b: Any, changes: Changes, times: Callable[[Any, Any], Any]) -> Any:
    u, v = changes
    if u is None:
        return times(a, v)
    through_left = times(u, moved(b, v))
    return through_left if v is None else through_left + times(a, v)


def quotient(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """(u - y v) / (b + v) with y = a / b."""
    a, b = map(wide, values)
    if not moving[1]:
        return Partial(lambda b, changes: [changes[0] / b], b)

    def change(values: Values, y: Any, changes: Changes) -> list[Any]:
        u, v = changes
        above = u if v is None else -y * v if u is None else u - y * v
        return [above / moved(values[1], v)]

    return Partial(exact(derivative_of(partial(bind, equation)), change), (a, b), wide(results[0]))


def integer_power(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """An integer power, by halving; 1 / x^n as a quotient."""
    n = equation.eqn.params["y"]

    def change(values: Values, y: Any, changes: Changes) -> list[Any]:
        (a,), (u,) = values, changes
        b = a + u
        up = _power(a, b, u, abs(n))
        return [up if n >= 0 else -up * y * b**n]

    kept = wide(results[0]) if n < 0 else None
    return Partial(exact(derivative_of(partial(bind, equation)), change), (wide(values[0]),), kept)


def _power(a: Any, b: Any, u: Any, n: int) -> Any:
    """b^n - a^n for b = a + u."""
    if n < 2:
        return u if n else jnp.zeros_like(u)
    half = n // 2
    even = _power(a, b, u, half) * (a**half + b**half)
    return even * b + a ** (n - 1) * u if n % 2 else even


def power(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """y (exp(w log x + (p + w) log(1 + u / x)) - 1) with y = x^p, for small changes of x > 0."""

    def change(values: Values, y: Any, changes: Changes) -> list[Any]:
        (x, p), (u, w) = values, (0 if change is None else change for change in changes)
        inside = (x > 0) & (jnp.abs(u) < x / 2)
        base = jnp.where(inside, x, 1)
        exponent = w * jnp.log(base) + (p + w) * jnp.log1p(jnp.where(inside, u, 0) / base)
        near = inside & (jnp.abs(exponent) < 1)
        return [jnp.where(near, y * jnp.expm1(jnp.where(near, exponent, 0)), bind(equation, x + u, p + w)[0] - y)]

    return Partial(exact(derivative_of(partial(bind, equation)), change), tuple(map(wide, values)), wide(results[0]))


def square(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """u (2 a + u)."""
    return Partial(lambda a, changes: [changes[0] * (2 * a + changes[0])], wide(values[0]))


def polynomial(equation: Equation, values: Values, results: Values, moving: Sequence[bool]) -> Partial:
    """By Horner's rule: from p to a + x p, the change of a and that of a product."""

    def change(values: Values, changes: Changes) -> list[Any]:
        (x, *coefficients), (u, *of_coefficients) = values, (0 if change is None else change for change in changes)
        value, up = coefficients[-1], of_coefficients[-1]
        for a, v in reversed(list(zip(coefficients, of_coefficients, strict=True))[:-1]):
            value, up = a + x * value, v + u * (value + up) + x * up
        return [up]

    return Partial(change, tuple(map(wide, values)))


MATRIX: dict[str, Rule] = {"dot_general": matrix_product, "conv_general_dilated": matrix_product}
PRODUCTS: dict[str, Rule] = {"mul": product, "div": quotient, "square": square, "polynomial": polynomial}
POWERS: dict[str, Rule] = {"pow": power, "integer_pow": integer_power}

"""Counting matrix products: what is needed counts, as often as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from neurai_core.products import Products, products

A = jnp.ones((2, 2))
ONE = 16.0  # operations of a product of two such matrices


def scanned(a: Any) -> Any:
    def body(carry: Any, _: None) -> Any:
        used, unused = carry
        return (used @ a, unused @ a), used @ used

    (used, _), _ = jax.lax.scan(body, (a, a), length=5)
    return used


def swapped(a: Any) -> Any:
    """The second part of the carry is needed by the first, an iteration later."""
    (first, _), _ = jax.lax.scan(lambda carry, _: ((carry[1], carry[0] @ a), ()), (a, a), length=5)
    return first


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda a: a + a, 0),
        (lambda a: (a @ a) @ a, 2),
        (lambda a: jax.jit(lambda b: (b @ b, b @ b @ b))(a)[0], 1),
        (lambda a: jax.checkpoint(lambda b: b @ b)(a), 1),
        (lambda a: jax.lax.cond(a[0, 0] > 0, lambda b: b @ b, lambda b: b @ b @ b, a), 2),
        (scanned, 5),
        (swapped, 5),
        (lambda a: jax.grad(lambda b: jnp.sum(jnp.tanh(b @ a)))(a), 2),
        (lambda a: jax.vjp(lambda b, c: b @ c, a, a)[1](a)[0], 1),
    ],
)
def test_products_that_are_needed_count_as_often_as_they_run(function: Callable[..., Any], wanted: int) -> None:
    assert products(function, A) == Products(wanted * ONE, True)


def test_a_loop_that_the_data_end_counts_once_and_is_told() -> None:
    assert products(lambda a: jax.lax.while_loop(lambda b: b[0, 0] < 9, lambda b: b @ b, a), A) == Products(ONE, False)
    assert products(lambda a: jax.lax.while_loop(lambda b: b[0, 0] < 9, lambda b: b + b, a), A) == Products(0.0, True)


def test_a_convolution_counts_its_window() -> None:
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))

    def convolved(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert products(convolved, x, kernel).flops == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)

"""Small Equinox models with the library's own training pass, on which the adapter is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from neurai_core.adapting import Example
from neurai_core.arrays import PyTree


class Skip(eqx.Module):
    """A module whose forward pass is code of its own."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        """A skip connection around the first layer."""
        return self.last(x + jax.nn.softplus(self.first(x)))


def examples() -> dict[str, Example]:
    """One for every kind of model that the spec lists, and one with batch statistics."""
    keys = jax.random.split(jax.random.key(0), 6)
    linear, last = eqx.nn.Linear(4, 4, key=keys[0]), eqx.nn.Linear(4, 3, key=keys[1])
    x = jax.random.normal(keys[2], (6, 4))

    def normalized() -> eqx.nn.Sequential:
        return eqx.nn.Sequential([linear, eqx.nn.BatchNorm(4, "batch", mode="batch"), eqx.nn.Lambda(jnp.tanh), last])

    return {
        "eqx.Module": _stateless(Skip(linear, last), x, layered=False),
        "eqx.nn.Sequential": _stateless(eqx.nn.Sequential([linear, eqx.nn.Lambda(jnp.tanh), last]), x),
        "eqx.nn.MLP": _stateless(eqx.nn.MLP(4, 3, 5, 2, key=keys[3]), x),
        "eqx.nn.BatchNorm": _stateful(*eqx.nn.make_with_state(normalized)(), x),
    }


def _stateless(model: Any, x: jax.Array, *, layered: bool = True) -> Example:
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)

    def training(params: PyTree, loss: Callable[[Any], Any]) -> tuple[Any, PyTree, PyTree]:
        value, grads = eqx.filter_value_and_grad(lambda params: loss(jax.vmap(eqx.combine(params, static))(x)))(params)
        return value, grads, params

    return Example(model, eqx.filter(model, eqx.is_inexact_array), x, training, layered)


def _stateful(model: Any, state: Any, x: jax.Array) -> Example:
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)

    def training(params: PyTree, loss: Callable[[Any], Any]) -> tuple[Any, PyTree, PyTree]:
        def of(own: PyTree) -> tuple[Any, Any]:
            run = jax.vmap(eqx.combine(own, static), axis_name="batch", in_axes=(0, None), out_axes=(0, None))
            outputs, updated = run(x, params[1])
            return loss(outputs), updated

        (value, updated), grads = eqx.filter_value_and_grad(of, has_aux=True)(params[0])
        return value, (grads, jax.tree.map(jnp.zeros_like, params[1])), (params[0], updated)

    return Example(model, (eqx.filter(model, eqx.is_inexact_array), state), x, training)

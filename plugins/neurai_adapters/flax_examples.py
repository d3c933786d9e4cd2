"""Small Flax models, NNX and Linen, with the library's own training pass, on which the adapter is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from neurai_core.adapting import Example
from neurai_core.arrays import PyTree


class Skip(nnx.Module):
    """An NNX module whose forward pass is code of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.last = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """A skip connection around the first layer."""
        return self.last(x + nnx.softplus(self.first(x)))


class LinenSkip(nn.Module):
    """The same in Linen."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """A skip connection around the first layer."""
        return nn.Dense(3)(x + nn.softplus(nn.Dense(4)(x)))


def examples() -> dict[str, Example]:
    """One for every kind of model that the spec lists, and one of each API with batch statistics."""
    rngs, x = nnx.Rngs(0), jax.random.normal(jax.random.key(1), (6, 4))
    ends = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
    norm = nn.BatchNorm(use_running_average=False)
    return {
        "nnx.Module": _nnx(Skip(rngs), x, layered=False),
        "nnx.Sequential": _nnx(nnx.Sequential(ends[0], nnx.tanh, ends[1]), x),
        "nnx.BatchNorm": _nnx(nnx.Sequential(ends[0], nnx.BatchNorm(4, rngs=rngs), nnx.tanh, ends[1]), x),
        "nn.Module": _linen(LinenSkip(), x, layered=False),
        "nn.Sequential": _linen(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(3)]), x),
        "nn.BatchNorm": _linen(nn.Sequential([nn.Dense(4), norm, nn.tanh, nn.Dense(3)]), x),
    }


def _nnx(model: Any, x: jax.Array, *, layered: bool = True) -> Example:
    kept = (nnx.Param, nnx.BatchStat)

    def training(params: PyTree, loss: Callable[[Any], Any]) -> tuple[Any, PyTree, PyTree]:
        own = nnx.clone(model)
        nnx.update(own, params)
        value, grads = nnx.value_and_grad(lambda own: loss(own(x)))(own)
        zeros = jax.tree.map(jnp.zeros_like, nnx.filter_state(params, nnx.BatchStat))
        return value, nnx.merge_state(grads, zeros), nnx.state(own, kept)

    return Example(model, nnx.state(model, kept), x, training, layered)


def _linen(model: Any, x: jax.Array, *, layered: bool = True) -> Example:
    def training(variables: PyTree, loss: Callable[[Any], Any]) -> tuple[Any, PyTree, PyTree]:
        collections = {name: tree for name, tree in variables.items() if name != "params"}

        def of(params: PyTree) -> tuple[Any, PyTree]:
            outputs, updated = model.apply({"params": params, **collections}, x, mutable=[*collections])
            return loss(outputs), updated

        (value, updated), grads = jax.value_and_grad(of, has_aux=True)(variables["params"])
        zeros = jax.tree.map(jnp.zeros_like, collections)
        return value, {"params": grads, **zeros}, {"params": variables["params"], **updated}

    return Example(model, model.init(jax.random.key(0), x), x, training, layered)

"""Rules that learn layer by layer from inputs alone: each dense layer from what the layers below make of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import Layer, Layered
from neurai_core.rule import Estimate, Rule, feedforward_init

# (parameters of a dense layer, its inputs (B, D_in)) -> (gradients, loss)
Learn = Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array]]


def layerwise(
    name: str,
    learn: Learn,
    features: Callable[[PyTree, jax.Array], jax.Array],
    scaled: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> Rule:
    """The rule in which every dense layer learns from its own inputs; its loss is the sum over layers.

    Args:
        name: of the rule, for errors.
        learn: what a layer learns.
        features: ``(parameters of the last dense layer, its inputs) -> features``, what the rule predicts.
        scaled: what is done to the inputs of every dense layer first.
    """

    def estimate(
        model: Layered, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        below = dense_inputs(name, model, params, inputs_of(batch), scaled)
        learned = {index: learn(params[index], x) for index, x in below}
        nothing = partial(jax.tree.map, jnp.zeros_like)
        grads = tuple(learned[index][0] if index in learned else nothing(own) for index, own in enumerate(params))
        loss = jnp.sum(jnp.stack([loss for _, loss in learned.values()]))
        return Estimate(grads, loss, jnp.asarray(-1.0), {}), state

    def predict(model: Layered, params: PyTree, x: jax.Array, state: PyTree = ()) -> jax.Array:
        *_, (index, below) = dense_inputs(name, model, params, x, scaled)
        return features(params[index], below)

    return Rule(feedforward_init, estimate, predict)


def inputs_of(batch: PyTree) -> jax.Array:
    """The inputs of a batch (B, ...), whose targets are not looked at.

    Raises:
        DataError: there are no rows, or not as many targets as inputs.
    """
    x, y = batch
    if not len(x) or len(y) != len(x):
        raise DataError(
            f"A batch has inputs {shape_text(x)} and targets {shape_text(y)}.",
            "Give at least one row; without targets, let y have the shape (B, 0).",
        )
    return x


def dense_inputs(
    name: str, model: Layered, params: PyTree, x: jax.Array, scaled: Callable[[jax.Array], jax.Array]
) -> Iterator[tuple[int, jax.Array]]:
    """Index and scaled inputs of every dense layer, from the bottom up.

    Raises:
        ModelError: another kind of layer has parameters, no layer is dense, or the inputs do not fit.
    """
    layers = [*zip(model.layers, params, strict=True)]
    if not any(is_dense(own) for _, own in layers):
        raise ModelError(f"{name} trains dense layers, and the model has none.", "Use --model mlp:64.")
    last = max(index for index, (_, own) in enumerate(layers) if is_dense(own))
    for index, (layer, own) in enumerate(layers[: last + 1]):
        if layer.stateful:
            raise ModelError(
                f"{name} keeps no batch statistics, and layer {index} ({layer.name}) carries a model state.",
                "Leave that layer out, or use bp, which trains every network.",
            )
        if is_dense(own):
            _check_inputs(index, layer, own, x)
            x = scaled(x)
            yield index, x
        elif jax.tree.leaves(own):
            raise ModelError(
                f"{name} trains dense layers, and layer {index} ({layer.name}) is of another kind.",
                "Use --model mlp:64, or bp, which trains every network.",
            )
        if index < last:
            x = layer.apply(own, (), x)[0]


def is_dense(own: PyTree) -> bool:
    """Whether these are the parameters of a dense layer, ``{"w": (D_in, D_out), "b": (D_out,)}``."""
    return isinstance(own, dict) and own.keys() == {"w", "b"} and own["w"].ndim == 2


def _check_inputs(index: int, layer: Layer, own: PyTree, x: jax.Array) -> None:
    if x.ndim != 2 or x.shape[1] != own["w"].shape[0]:
        raise ModelError(
            f"Layer {index} ({layer.name}) takes (B, {own['w'].shape[0]}), and its inputs are {shape_text(x)}.",
            "Flatten them, or give the layer this width.",
        )

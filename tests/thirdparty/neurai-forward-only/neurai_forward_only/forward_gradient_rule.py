r"""Forward gradients, Baydin et al. 2022: g = (dL/dtheta . v) v with v ~ N(0, 1), one forward pass with its slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.layered import forward
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict, loss_aux, objective, split_batch
from neurai_forward_only import ForwardGradientConfig


def build(
    config: ForwardGradientConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "forward gradients", for any callable.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: jax.Array | None = None
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)

        def loss_of(params: PyTree) -> tuple[jax.Array, Any]:
            outputs, updated = forward(model, params, x, model_state=state, key=key, train=True)
            value, aux = score.loss(outputs, y)
            return value, (score.accuracy(outputs, y), updated, aux)

        def along(key: jax.Array) -> PyTree:
            v = direction(key, params)
            _, slope, _ = jax.jvp(loss_of, (params,), (v,), has_aux=True)
            return jax.tree.map(lambda leaf: slope.astype(leaf.dtype) * leaf, v)

        keys = jax.random.split(jax.random.fold_in(key, 1), config.samples)
        grads = jax.tree.map(lambda leaf: leaf.mean(axis=0, dtype=leaf.dtype), jax.vmap(along)(keys))
        value, (accuracy_now, updated, aux) = loss_of(params)
        return Estimate(grads, value, accuracy_now, loss_aux(aux)), updated

    return Rule(feedforward_init, estimate, feedforward_predict)


def direction(key: jax.Array, params: PyTree) -> PyTree:
    """v, standard normal in the form of the parameters, and the same numbers in every dtype."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, jnp.shape(leaf), jnp.float32) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, [v.astype(leaf.dtype) for v, leaf in zip(drawn, leaves, strict=True)])

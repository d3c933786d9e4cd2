r"""Weight perturbation: dL/dtheta ~ (L(theta + sigma v) - L(theta - sigma v)) / (2 sigma) v with v ~ N(0, 1).

Werfel, Xie and Seung 2005; with two sides, Spall 1992. Only forward passes, and only their loss is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.directions import mean_along
from neurai_algorithms.weight_perturbation.spec import WeightPerturbationConfig
from neurai_core.arrays import PyTree
from neurai_core.layered import forward
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: WeightPerturbationConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "weight perturbation", for any callable.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score, sigma = objective(loss, accuracy, has_aux), config.sigma

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: jax.Array
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)

        def loss_of(params: PyTree) -> tuple[jax.Array, Any]:
            outputs, updated = forward(model, params, x, model_state=state, key=key, train=True)
            value, aux = score.loss(outputs, y)
            return value, (score.accuracy(outputs, y), updated, aux)

        def at(v: PyTree, size: Any) -> jax.Array:
            return loss_of(jax.tree.map(lambda leaf, way: leaf + (size * way).astype(leaf.dtype), wide, v))[0]

        # Small changes of the loss are lost in 16 bits.
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), params)
        value, (accuracy_now, updated, aux) = loss_of(params)

        def slope(v: PyTree) -> jax.Array:
            if config.two_sided:
                return (at(v, sigma) - at(v, -sigma)) / (2 * sigma)
            return (at(v, sigma) - value) / sigma

        found = mean_along(slope, key, wide, config.samples, config.distribution)
        grads = jax.tree.map(lambda leaf, g: g.astype(leaf.dtype), params, found)
        return Estimate(grads, value, accuracy_now, loss_aux(aux)), updated

    return Rule(feedforward_init, estimate, feedforward_predict)

r"""Node perturbation: dL/du_l ~ (L(u + sigma xi) - L(u - sigma xi)) / (2 sigma) xi_l with xi ~ N(0, 1), per example.

Werfel, Xie and Seung 2005, for one linear layer; with noise in all layers, Dalm et al. 2023. u_l is the input of the
units of layer l; the weights below it learn by the product of its estimate and the activities of the clean pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.directions import mean_along
from neurai_algorithms.node_perturbation.spec import NodePerturbationConfig
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layered
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: NodePerturbationConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "node perturbation", for layers that are linear, then elementwise, and others without parameters.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``; a sum or a mean over examples.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score, sigma = objective(loss, accuracy, has_aux), config.sigma

    def init(model: Layered, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model, params)
        return feedforward_init(model, params, key=key, model_state=model_state)

    def estimate(
        model: Layered, params: PyTree, state: PyTree, batch: PyTree, *, key: jax.Array
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), params)
        outputs, below, u = passed(model, wide, x, key)
        value, aux = score.loss(outputs, y)

        counts = share(score, outputs, y)

        def slopes(xi: PyTree) -> jax.Array:
            """Of the loss along its noise, by example, (B,)."""

            def at(size: Any) -> jax.Array:
                noise = jax.tree.map(lambda n: size * n, xi)
                return examples(score, passed(model, wide, x, key, noise, clean=u)[0], y)

            if config.two_sided:
                return (at(sigma) - at(-sigma)) / (2 * sigma) * counts
            return (at(sigma) - examples(score, outputs, y)) / sigma * counts

        signals = mean_along(slopes, key, u, config.samples, config.distribution)
        grads = tuple(
            _pulled(layer, own, h, signal)
            for layer, own, h, signal in zip(model.layers, params, below, signals, strict=True)
        )
        return Estimate(grads, value, score.accuracy(outputs, y), loss_aux(aux)), state

    return Rule(init, estimate, feedforward_predict)


def passed(
    model: Layered, params: PyTree, x: jax.Array, key: jax.Array, noise: PyTree | None = None, clean: PyTree = ()
) -> tuple[jax.Array, list[jax.Array], tuple[Any, ...]]:
    """Outputs, the input of every layer, and the input u of its units; () for a layer without parameters.

    Up to the first noise, u is taken from the clean pass, if it is given.
    """
    layers: tuple[Any, ...] = model.layers
    below: list[jax.Array] = []
    inputs: list[Any] = []
    for index, (layer, own) in enumerate(zip(layers, params, strict=True)):
        below.append(x)
        u: Any = ()
        if jax.tree.leaves(own):
            is_clean = clean and not jax.tree.leaves(inputs)
            u = clean[index] if is_clean else layer.linear(own, x)
            u = u if noise is None else u + noise[index].astype(u.dtype)
            x = layer.activation(u)
        else:
            x = layer.apply(own, (), x, key=jax.random.fold_in(key, index), train=True)[0]
        inputs.append(u)
    return x, below, tuple(inputs)


def examples(score: Any, outputs: jax.Array, y: PyTree) -> jax.Array:
    """The loss of every example by itself, (B,)."""
    alone = lambda one, target: score.loss(one[None], jax.tree.map(lambda leaf: leaf[None], target))[0]  # noqa: E731
    return jax.vmap(alone)(outputs, y)


def share(score: Any, outputs: jax.Array, y: PyTree) -> jax.Array:
    """What the loss of one example counts in that of the batch: 1 in a sum, 1/B in a mean.

    It is the ratio of the slopes of both by the outputs: a ratio of the losses would be 0 / 0 where they are 0.
    """
    whole = jax.grad(lambda outputs: score.loss(outputs, y)[0])(outputs)
    parts = jax.grad(lambda outputs: examples(score, outputs, y).sum())(outputs)
    return jnp.vdot(whole, parts) / jnp.maximum(jnp.vdot(parts, parts), jnp.finfo(parts.dtype).tiny)


def _pulled(layer: Any, own: PyTree, below: jax.Array, signal: PyTree) -> PyTree:
    """The gradient of the parameters of a layer, from that of the input of its units."""
    if not jax.tree.leaves(own):
        return own
    u, pull = jax.vjp(lambda own: layer.linear(own, below), own)
    return pull(signal.astype(u.dtype))[0]


def _check(model: Layered, params: PyTree) -> None:
    for index, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
        if layer.stateful or (layer.linear is None and jax.tree.leaves(own)):
            raise ModelError(
                f"Node perturbation adds noise between the linear part and the activation of a layer, and layer "
                f"{index} ({layer.name}) does not have these parts.",
                "Use dense and conv layers with layers without parameters; weight-perturbation trains any network.",
            )

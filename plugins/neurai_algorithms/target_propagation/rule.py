"""Difference target propagation: targets, not errors, travel down through learned inverses of the layers.

Lee, Zhang, Fischer and Bengio 2015, arXiv:1412.7525. Layer l computes h_l = f_l(h_{l-1}), g_l learns to undo it, and

    t_L = h_L - step dloss/dh_L        t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l)

Every layer then learns to reach its target from where it is, by the gradient of |f_l(h_{l-1}) - t_l|^2 / (2 step). The
differences cancel what an inverse gets wrong at h_l. With exact inverses, and to first order in the step, t_l - h_l is
the Gauss-Newton step of layer l for the squared error (Meulemans et al. 2020, arXiv:2006.14331).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.extending import Extended, ExtendedRule
from neurai_algorithms.target_propagation.spec import DTPConfig
from neurai_core.arrays import PyTree, Shape, float_type, normal
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, Layered, identity
from neurai_core.rule import (
    Estimate,
    check_objective,
    feedforward_init,
    feedforward_predict,
    loss_aux,
    objective,
    split_batch,
)


def build(
    config: DTPConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> ExtendedRule:
    """The rule "difference target propagation".

    Its parameters are ``{"forward": those of the model, "feedback": inverses of all layers but the first}``.

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def estimate(
        model: Extended, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        (x, y), plain, inverses = split_batch(batch), model.plain, params["feedback"]
        h, pulls = _forward(plain, params["forward"], x)
        check_objective(score, h[-1], y)
        (value, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(h[-1], y)

        length = config.step * len(y)  # the loss is a mean, and the step that of an example
        misses = differences(plain, inverses, h, -length * slope)
        forward = tuple(pull(-miss / length)[0] for pull, miss in zip(pulls, misses, strict=True))
        keys = [None] * len(h) if key is None else jax.random.split(key, len(h))
        feedback = tuple(
            jax.grad(partial(_reconstruction, config.noise, layer, g))(own, theta, below, k)
            for layer, g, own, theta, below, k in zip(
                plain.layers[1:], _ends(plain), inverses, params["forward"][1:], h, keys[1:], strict=False
            )
        )
        grads = {"forward": forward, "feedback": feedback}
        return Estimate(grads, value, score.accuracy(h[-1], y), loss_aux(aux)), state

    return ExtendedRule(feedforward_init, estimate, feedforward_predict, extended)


def extended(model: Layered, params: PyTree, *, key: jax.Array, input_shape: Shape) -> tuple[Extended, PyTree]:
    """The model with an inverse ``{"w", "b"}`` of every layer but the first.

    Raises:
        ModelError: a layer draws, carries a state or gives no vectors, or there is no hidden layer.

    >>> from neurai_core.models import mlp
    >>> model = mlp((4, 3, 2))
    >>> params, _ = model.init(jax.random.key(0), (4,))
    >>> _, more = extended(model, params, key=jax.random.key(1), input_shape=(4,))
    >>> [own["w"].shape for own in more["feedback"]]
    [(2, 3)]
    """
    _check(model, params)
    x = jax.ShapeDtypeStruct((1, *input_shape), float_type(params))
    h, _ = jax.eval_shape(lambda params, x: (_forward(model, params, x)[0], ()), params, x)
    for index, (layer, one) in enumerate(zip(model.layers, h, strict=True)):
        if one.ndim != 2:
            raise ModelError(
                f"Layer {index} ({layer.name}) gives {one.shape[1:]} for an example, and dtp inverts vectors.",
                hint="Use flatten and dense layers. Rules for convolutions are fa, dfa and kolen-pollack.",
            )
    keys = jax.random.split(key, len(h))
    inverses = (_inverse(k, above, below) for k, below, above in zip(keys, h, h[1:], strict=False))
    return Extended(model), {"forward": params, "feedback": tuple(inverses)}


def differences(model: Layered, inverses: PyTree, h: list[jax.Array], last: jax.Array) -> list[jax.Array]:
    """What every layer is away from its target, t_l - h_l, from that of the outputs down.

    Args:
        model: its layers.
        inverses: of every layer but the first.
        h: outputs of all layers.
        last: t_L - h_L.

    >>> from neurai_core.models import mlp
    >>> h = [jnp.ones((1, 1)), jnp.ones((1, 1))]
    >>> found = differences(mlp((1, 1, 1), "identity"), ({"w": 2 * jnp.ones((1, 1)), "b": jnp.ones(1)},), h, h[1])
    >>> [float(one[0, 0]) for one in found]
    [2.0, 1.0]
    """
    found = [last]
    for g, own, above in reversed(list(zip(_ends(model), inverses, h[1:], strict=False))):
        found.append(_undone(g, own, above + found[-1]) - _undone(g, own, above))
    return found[::-1]


def _forward(model: Layered, params: PyTree, x: PyTree) -> tuple[list[jax.Array], list[Callable[..., Any]]]:
    """h_1 .. h_L, and for each what its error gives for the parameters of its layer."""
    h, pulls = [], []
    x = model.inputs(params, x)
    for layer, own in zip(model.layers, params, strict=True):
        x, pull = jax.vjp(lambda own, x=x, layer=layer: layer.apply(own, (), x)[0], own)
        h.append(x)
        pulls.append(pull)
    return h, pulls


def _ends(model: Layered) -> list[Callable[[jax.Array], jax.Array]]:
    """What inverses of the layers from the second on end with: the activation of the layer below."""
    return [layer.activation or identity for layer in model.layers[:-1]]


def _undone(g: Callable[[jax.Array], jax.Array], own: PyTree, above: jax.Array) -> jax.Array:
    return g(above @ own["w"] + own["b"])


def _reconstruction(
    noise: Any, layer: Layer, g: Callable[[jax.Array], jax.Array], own: PyTree, theta: PyTree, below: Any, key: Any
) -> jax.Array:
    """How far an inverse is from undoing its layer, around the activities below."""
    shaken = below if key is None else below + jnp.asarray(noise, below.dtype) * normal(key, below.shape, below.dtype)
    again = _undone(g, own, layer.apply(theta, (), shaken)[0])
    return jnp.sum((again - shaken) ** 2) / len(below)


def _inverse(key: jax.Array, above: jax.ShapeDtypeStruct, below: jax.ShapeDtypeStruct) -> PyTree:
    shape = above.shape[1], below.shape[1]
    return {"w": normal(key, shape, below.dtype) / shape[0] ** 0.5, "b": jnp.zeros(shape[1], below.dtype)}


def _check(model: Layered, params: PyTree) -> None:
    for index, layer in enumerate(model.layers):
        if layer.stateful or layer.stochastic:
            what = "carries a state" if layer.stateful else "draws at random"
            raise ModelError(
                f"Layer {index} ({layer.name}) {what}, and dtp inverts layers that always do the same.",
                hint="Leave it out.",
            )
    if sum(bool(jax.tree.leaves(own)) for own in params) < 2:
        raise ModelError("dtp sends targets to hidden layers, and the model has none.", hint="Add a layer, or use bp.")

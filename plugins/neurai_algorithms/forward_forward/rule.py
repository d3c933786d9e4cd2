r"""Forward-Forward, Hinton 2022: no backward pass, and a prediction that tries every label in turn.

A label is shown to the first layer together with the input, by an input unit for each class. The example is positive
if the label is true. Every layer learns on its own to tell the two apart by its goodness G_l = mean_j h_lj^2, and hands
its activities on with their length taken out, so that the next cannot read G_l off:

    p(positive) = sigmoid(G_l - theta) ,    u_1 = W_1 x + b_1 + V_label ,    h_l = f(u_l(h_{l-1} / rms(h_{l-1}))) .

The weights V of the label's units are parameters of the rule beside those of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.extending import ExtendedRule
from neurai_algorithms.forward_forward.spec import ForwardForwardConfig
from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import Layered
from neurai_core.losses import is_labels
from neurai_core.rule import Estimate, check_objective, feedforward_init, objective, split_batch


@dataclass(frozen=True)
class WithLabels:
    """The plain model, told where its parameters are."""

    plain: Layered

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """The outputs of the plain model, which sees no label."""
        return self.plain(params["layers"], x)


def build(
    config: ForwardForwardConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> ExtendedRule:
    """The rule "Forward-Forward", for layers of which the first is linear, then elementwise.

    Its parameters are ``{"layers": those of the model, "labels": V}``.

    Args:
        config: its settings.
        loss: only evaluates predictions; the rule trains a loss of its own.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score, theta = objective(loss, accuracy, has_aux), config.threshold

    def estimate(
        model: WithLabels, params: PyTree, state: PyTree, batch: PyTree, *, key: jax.Array
    ) -> tuple[Estimate, PyTree]:
        x, y = split_batch(batch)
        classes = len(params["labels"])
        scores = jax.ShapeDtypeStruct((len(x), classes), params["labels"].dtype)
        check_objective(score, scores, y)
        if not is_labels(scores, y):
            raise DataError(
                f"Forward-Forward learns labels, and the targets are {shape_text(y)}.", "Pass integers (B,)."
            )
        other = (y + jax.random.randint(key, y.shape, 1, classes)) % classes  # any label but the true one

        def misjudged(h: jax.Array) -> jax.Array:
            positive, negative = jnp.split(goodness(h), 2)
            return jnp.mean(jax.nn.softplus(theta - positive) + jax.nn.softplus(negative - theta))

        def of_first(own: PyTree, V: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = first(model, own, x, [config.strength * V[label] for label in (y, other)])
            return misjudged(h), h

        (value, h), (lowest, labels) = jax.value_and_grad(of_first, (0, 1), has_aux=True)(
            params["layers"][0], params["labels"]
        )
        grads = [lowest]
        for layer, own in above(model, params):

            def of_layer(own: PyTree, layer: Any = layer, below: jax.Array = h) -> tuple[jax.Array, jax.Array]:
                h = passed(layer, own, below)
                return misjudged(h), h

            if jax.tree.leaves(own):
                (more, h), g = jax.value_and_grad(of_layer, has_aux=True)(own)
                value = value + more
            else:
                h, g = passed(layer, own, h), own
            grads.append(g)
        known = jnp.asarray(-1.0) if accuracy is None else score.accuracy(predict(model, params, x), y)
        return Estimate({"layers": tuple(grads), "labels": labels}, value, known, {}), state

    def predict(model: WithLabels, params: PyTree, x: jax.Array, state: PyTree = ()) -> jax.Array:
        """Goodness of every label, (B, classes), summed over the layers."""
        classes = len(params["labels"])
        h = first(model, params["layers"][0], x, list(config.strength * params["labels"]))
        total = goodness(h)
        for layer, own in above(model, params):
            h = passed(layer, own, h)
            total = total + (goodness(h) if jax.tree.leaves(own) else 0)
        return total.reshape(classes, -1).T

    return ExtendedRule(feedforward_init, estimate, predict, extended)


def extended(
    model: Layered, params: PyTree, *, key: jax.Array, input_shape: tuple[int, ...]
) -> tuple[WithLabels, PyTree]:
    """A plain model and its parameters -> the model that is trained, and its parameters with V."""
    lowest, hint = model.layers[0], "Use mlp(...) or cnn(...); bp and forward-gradient train any network."
    if lowest.linear is None:
        raise ModelError(
            f"Forward-Forward adds the label to layer 0 ({lowest.name}), which is not 'linear, then elementwise'.", hint
        )
    for index, layer in enumerate(model.layers):
        if layer.stateful or layer.stochastic:
            raise ModelError(
                f"Forward-Forward trains no layer like {index} ({layer.name}), with a state or noise.", hint
            )
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.result_type(float))
    u = jax.eval_shape(lowest.linear, params[0], x)
    outputs = jax.eval_shape(model, params, x)
    if len(outputs.shape) != 2 or outputs.shape[1] < 2:
        raise ModelError(
            f"Forward-Forward gives a score to each of at least 2 classes, and the outputs are {shape_text(outputs)}.",
            "Give the last layer a unit for every class.",
        )
    V = jax.random.normal(key, (outputs.shape[1], *u.shape[1:]), u.dtype)
    return WithLabels(model), {"layers": params, "labels": V / outputs.shape[1] ** 0.5}


def first(model: WithLabels, own: PyTree, x: jax.Array, labels: list[jax.Array]) -> jax.Array:
    """Activities of the first layer, (len(labels) * B, ...): one product for all the labels that are tried."""
    layer: Any = model.plain.layers[0]
    u = layer.linear(own, x)
    return layer.activation(jnp.concatenate([u + label for label in labels]))


def above(model: WithLabels, params: PyTree) -> list[tuple[Any, PyTree]]:
    """The layers above the first, with their parameters."""
    return list(zip(model.plain.layers[1:], params["layers"][1:], strict=True))


def passed(layer: Any, own: PyTree, below: jax.Array) -> jax.Array:
    """Activities of a layer above the first; one that learns gets those below with a root mean square of 1."""
    if jax.tree.leaves(own):
        below = below / (jnp.sqrt(_over_units(below**2, keepdims=True)) + 1e-6)
    return layer.apply(own, (), below, train=True)[0]


def goodness(h: jax.Array) -> jax.Array:
    """The mean squared activity of every example."""
    return _over_units(h**2)


def _over_units(h: jax.Array, keepdims: bool = False) -> jax.Array:
    return jnp.mean(h, axis=tuple(range(1, h.ndim)), keepdims=keepdims)

"""Feedback alignment and direct feedback alignment: the error comes back through fixed random weights B.

With ``u_l = x_l W_l + b_l`` and ``x_{l+1} = f(u_l)``, one row per example, both learn with
``dW_l = x_l^T delta_l`` and the exact ``delta`` of the output, which is called ``e``; below it

```
back-propagation            delta_l = (delta_{l+1} W_{l+1}^T) * f'(u_l)
feedback alignment          delta_l = (delta_{l+1} B_{l+1}^T) * f'(u_l)      Lillicrap et al. 2016
direct feedback alignment   delta_l = (e B_l) * f'(u_l)                      Nøkland 2016
```

Feedback alignment on networks that are no chain is in `on_networks`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, Layered
from neurai_core.rule import Estimate, Rule, State, feedforward_predict, loss_aux, objective
from neurai_feedback_alignment import DirectFeedbackAlignmentConfig, FeedbackAlignmentConfig
from neurai_feedback_alignment.on_networks import estimate_on_network


class Pass(NamedTuple):
    """One layer in a forward pass.

    Attributes:
        x: its input, (B, ...).
        pull: cotangent of its output -> (gradient of its parameters, ``delta``): the cotangent of its
            pre-activation, or of its input when the layer has no linear half.
    """

    x: PyTree
    pull: Callable[[PyTree], tuple[PyTree, PyTree]]


# (model, params, feedback weights, one Pass per layer, dL/d outputs) -> one gradient per layer
Backward = Callable[[Layered, PyTree, PyTree, list[Pass], PyTree], list[PyTree]]


def build_feedback_alignment(
    config: FeedbackAlignmentConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "feedback alignment" on layers and networks; its state holds ``B`` in the structure of the parameters.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """

    score = objective(loss, accuracy, has_aux)
    on_layers = _estimator(score, _layer_by_layer)

    def init(model: Any, params: PyTree, *, key: jax.Array, model_state: PyTree = ()) -> State:
        if isinstance(model, Layered):
            _check_layers(model, params)
        weights, structure = jax.tree.flatten(params)
        keys = jax.random.split(key, len(weights))
        drawn = [
            config.scale * _spread(w) * jax.random.normal(k, w.shape, w.dtype)
            for w, k in zip(weights, keys, strict=True)
        ]
        return State(model_state, jax.tree.unflatten(structure, drawn))

    def estimate(
        model: Any, params: PyTree, state: State, batch: PyTree, *, key: jax.Array | None = None
    ) -> tuple[Estimate, State]:
        if isinstance(model, Layered):
            return on_layers(model, params, state, batch, key=key)
        return estimate_on_network(score, model, params, state, batch, key)

    return Rule(init, estimate, feedforward_predict)


def build_direct_feedback_alignment(
    config: DirectFeedbackAlignmentConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "direct feedback alignment"; its state holds a ``B_l`` (outputs, width) per hidden layer.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """

    def init(model: Layered, params: PyTree, *, key: jax.Array, model_state: PyTree = ()) -> State:
        layers = zip(model.layers, params, strict=True)
        *hidden, outputs = [_width(index, layer, p) for index, (layer, p) in enumerate(layers)]
        if outputs is None:
            name = model.layers[-1].name
            raise ModelError(f"The last layer ({name}) has no weights.", hint="End with a dense layer.")
        keys = jax.random.split(key, len(hidden))
        spread = config.scale / outputs**0.5
        dtype = jnp.result_type(*jax.tree.leaves(params))
        drawn = (
            w and jnp.asarray(spread, dtype) * jax.random.normal(k, (outputs, w), dtype)
            for w, k in zip(hidden, keys, strict=True)
        )
        return State(model_state, tuple(drawn))

    return Rule(init, _estimator(objective(loss, accuracy, has_aux), _from_the_output), feedforward_predict)


# ---------------------------------------------------------------------------- forward, then backward


def _estimator(score: Any, backward: Backward) -> Callable[..., tuple[Estimate, State]]:
    def estimate(
        model: Layered, params: PyTree, state: State, batch: PyTree, *, key: jax.Array | None = None
    ) -> tuple[Estimate, State]:
        x, y = batch
        outputs, passes, model_state = _forward(model, params, state.model_state, x, key)
        (loss, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)
        grads = tuple(backward(model, params, state.own, passes, slope))
        return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), State(model_state, state.own)

    return estimate


def _forward(
    model: Layered, params: PyTree, model_state: PyTree, x: PyTree, key: jax.Array | None
) -> tuple[PyTree, list[Pass], PyTree]:
    passes, states = [], []
    layers = zip(model.layers, params, model.layer_states(model_state), strict=True)
    for index, (layer, layer_params, layer_state) in enumerate(layers):
        layer_key = None if key is None else jax.random.fold_in(key, index)
        one, x, layer_state = _through(layer, layer_params, layer_state, x, layer_key)
        passes.append(one)
        states.append(layer_state)
    return x, passes, model_state if model_state == () else tuple(states)


def _through(
    layer: Layer, params: PyTree, state: PyTree, x: PyTree, key: jax.Array | None
) -> tuple[Pass, PyTree, PyTree]:
    """One layer forward: its `Pass`, its output and its model state."""
    if layer.linear is None:
        run = partial(layer.apply, params, state, key=key, train=True)
        y, pull, state = jax.vjp(run, x, has_aux=True)
        return Pass(x, lambda signal: (params, *pull(signal))), y, state  # such a layer has no parameters
    u, pull_params = jax.vjp(lambda params: layer.linear(params, x), params)
    y, pull_activation = jax.vjp(layer.activation, u)

    def pull_back(signal: PyTree) -> tuple[PyTree, PyTree]:
        (delta,) = pull_activation(signal)
        return *pull_params(delta), delta

    return Pass(x, pull_back), y, state


def _layer_by_layer(
    model: Layered, params: PyTree, feedback: PyTree, passes: list[Pass], slope: PyTree
) -> list[PyTree]:
    grads, signal = [], slope
    for layer, weights, one in reversed(list(zip(model.layers, feedback, passes, strict=True))):
        grad, delta = one.pull(signal)
        grads.append(grad)
        signal = delta if layer.linear is None else _transposed(layer, weights, one.x, delta)
    return grads[::-1]


def _transposed(layer: Layer, weights: PyTree, x: PyTree, delta: PyTree) -> PyTree:
    """``delta B^T`` for whatever the layer's linear map is: the VJP of an affine map does not depend on x."""
    return jax.vjp(lambda x: layer.linear(weights, x), x)[1](delta)[0]


def _from_the_output(
    model: Layered, params: PyTree, feedback: PyTree, passes: list[Pass], slope: PyTree
) -> list[PyTree]:
    last, e = passes[-1].pull(slope)
    hidden = zip(params[:-1], feedback, passes[:-1], strict=True)
    return [*(p if B is None else one.pull(e @ B)[0] for p, B, one in hidden), last]


# ---------------------------------------------------------------------------- feedback weights


def _check_layers(model: Layered, params: PyTree) -> None:
    for index, (layer, layer_params) in enumerate(zip(model.layers, params, strict=True)):
        if layer.linear is None and jax.tree.leaves(layer_params):
            raise ModelError(
                f"Layer {index} ({layer.name}) has parameters and is not 'linear, then elementwise', so it "
                "shows no weights that feedback weights could stand for.",
                hint="Use dense and conv layers, with layers without parameters between them; or name the products of "
                'the model, neurai.named(model, "auto"), for feedback alignment on networks.',
            )


def _spread(weights: jax.Array) -> jax.Array:
    """Root mean square of the weights when training begins, whatever their layout."""
    return jnp.sqrt(jnp.mean(weights**2))


def _width(index: int, layer: Layer, params: PyTree) -> int | None:
    """Number of outputs of a dense layer; None for a layer without parameters."""
    if not jax.tree.leaves(params):
        return None
    matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    for inputs in matrices[0].shape if matrices else ():  # libraries differ in which axis the inputs are
        with suppress(TypeError, ValueError):
            x = jax.ShapeDtypeStruct((1, inputs), matrices[0].dtype)
            return int(jax.eval_shape(layer.linear, params, x).shape[-1])
    raise ModelError(
        f"Layer {index} ({layer.name}) is not dense, so how wide it is depends on its input.",
        hint="Direct feedback alignment takes dense layers; feedback-alignment takes convolutions too.",
    )

"""Direct feedback alignment: every hidden layer learns from the error of the outputs, through fixed random weights.

    delta_l = (e B_l) f'(u_l)        d theta_l = (d u_l / d theta_l)^T delta_l

Nøkland 2016, arXiv:1609.01596. No error passes through a layer, so any layer will do: its own derivative is all that
is needed, of a residual block as a whole. B_l has the shape of the layer's output, which init has to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.direct_feedback.spec import DFAConfig
from neurai_algorithms.way_back import walk_forward
from neurai_core.arrays import PyTree, normal
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layer, Layered
from neurai_core.rule import (
    Estimate,
    Problem,
    Rule,
    State,
    check_objective,
    feedforward_predict,
    loss_aux,
    objective,
    split_batch,
)

# error of a layer's output -> (error before its activation, gradients of its parameters)
Pull = Callable[[PyTree], tuple[PyTree, PyTree]]


def build(
    config: DFAConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "direct feedback alignment"; its state holds a B, or None, for every layer below the last.

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(
        model: Layered, params: PyTree, *, key: jax.Array, model_state: PyTree = (), problem: Problem | None = None
    ) -> State:
        _check(model, params)
        if problem is None:
            raise UsageError(
                "dfa draws feedback weights for the outputs of every layer, whose shapes depend on those of the batch.",
                "Pass init(..., problem=problem_of(batch)), with problem_of from neurai_core.rule.",
            )
        *hidden, outputs = _shapes(model, params, model_state, problem.batch[0])
        keys = jax.random.split(key, len(model))
        drawn = [_drawn(config.scale, outputs, shape, k) for shape, k in zip(hidden, keys, strict=False)]
        learning = [bool(jax.tree.leaves(own)) for own in params[:-1]]
        return State(model_state, tuple(b if one else None for b, one in zip(drawn, learning, strict=True)))

    def estimate(
        model: Layered, params: PyTree, state: State, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, State]:
        x, y = split_batch(batch)
        outputs, pulls, model_state = walk_forward(model, params, state.model_state, x, key, _through)
        check_objective(score, outputs, y)
        (loss, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)
        e, last = pulls[-1](slope)
        error = e.reshape(len(e), -1)
        hidden = zip(params[:-1], state.own, pulls[:-1], strict=True)
        grads = (*(own if B is None else pull(jnp.tensordot(error, B, 1))[1] for own, B, pull in hidden), last)
        return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), State(model_state, state.own)

    return Rule(init, estimate, feedforward_predict)


def _drawn(scale: Any, outputs: jax.ShapeDtypeStruct, hidden: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
    """Feedback weights (outputs, *hidden)."""
    count = math.prod(outputs.shape[1:])
    spread = jnp.asarray(scale / count**0.5, hidden.dtype)
    return spread * normal(key, (count, *hidden.shape[1:]), hidden.dtype)


def _shapes(model: Layered, params: PyTree, model_state: PyTree, x: PyTree) -> list[Any]:
    """Shapes and dtypes of the outputs of all layers, without computing."""

    def values(params: PyTree, model_state: PyTree, x: PyTree) -> list[jax.Array]:
        found = []
        x = model.inputs(params, x)
        for layer, own, state in zip(model.layers, params, model.layer_states(model_state), strict=True):
            x, _ = layer.apply(own, state, x)
            found.append(x)
        return found

    return jax.eval_shape(values, params, model_state, x)  # type: ignore[no-any-return]


def _through(layer: Layer, params: PyTree, state: PyTree, x: PyTree, key: Any) -> tuple[Pull, PyTree, PyTree]:
    """One layer forward; its pull also gives the error before its activation."""
    linear, activation = layer.linear, layer.activation
    if linear is None or activation is None:
        run = partial(layer.apply, key=key, train=True)
        y, pull_all, state = jax.vjp(lambda params: run(params, state, x), params, has_aux=True)
        return lambda error: (error, *pull_all(error)), y, state
    u, pull_params = jax.vjp(lambda params: linear(params, x), params)
    y, pull_activation = jax.vjp(activation, u)

    def pull(error: PyTree) -> tuple[PyTree, PyTree]:
        (delta,) = pull_activation(error)
        return delta, *pull_params(delta)

    return pull, y, state


def _check(model: Layered, params: PyTree) -> None:
    """Check that there are hidden layers that learn, and outputs.

    Raises:
        ModelError: the last layer has no parameters, or is the only one that has.
    """
    if not jax.tree.leaves(params[-1]):
        raise ModelError(
            f"The last layer ({model.layers[-1].name}) has no parameters, and dfa sends the error there to all others.",
            hint="End with a dense layer.",
        )
    if not jax.tree.leaves(params[:-1]):
        raise ModelError(
            "dfa sends errors back to hidden layers, and the model has none.", hint="Add a layer, or use bp."
        )

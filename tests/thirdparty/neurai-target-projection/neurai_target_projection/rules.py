"""Direct random target projection: every hidden value learns from the target itself, without waiting for the outputs.

With the value ``h_k = f_k(..., theta)`` of a layer, or of a name in a network,

```
back-propagation                    d theta = sum_k (d f_k / d theta)^T dL/dh_k
direct random target projection     d theta = sum_k (d f_k / d theta)^T (-B_k^T y*) / B
```

Frenkel et al. 2021. B_k is drawn once, y* is the one-hot target, and the outputs learn from the loss. The derivatives
are those of one layer alone, so a layer can learn as soon as it has its value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, normal
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered
from neurai_core.network import learning_network
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
from neurai_target_projection import DRTPConfig

Values = dict[str, jax.Array]


def build(
    config: DRTPConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule on layers and networks; its state holds a ``B_k`` (outputs, *value) for every hidden value.

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(
        model: Any, params: PyTree, *, key: jax.Array, model_state: PyTree = (), problem: Problem | None = None
    ) -> State:
        if problem is None:
            raise UsageError(
                "drtp needs the shapes of a batch for its projections.",
                "Pass init(..., problem=problem_of(batch)).",
            )

        def shapes(params: PyTree, model_state: PyTree, x: PyTree) -> tuple[PyTree, Values]:
            outputs, hidden, _ = _forward(model, params, model_state, x, jax.random.key(0))
            return outputs, hidden

        outputs, hidden = jax.eval_shape(shapes, params, model_state, problem.batch[0])
        count = outputs.shape[-1]
        keys = jax.random.split(key, max(len(hidden), 1))
        drawn = {
            name: jnp.asarray(config.scale, h.dtype) * normal(k, (count, *h.shape[1:]), h.dtype) / count**0.5
            for k, (name, h) in zip(keys, hidden.items(), strict=False)
        }
        return State(model_state, drawn)

    def estimate(
        model: Any, params: PyTree, state: State, batch: PyTree, *, key: jax.Array | None = None
    ) -> tuple[Estimate, State]:
        x, y = split_batch(batch)

        def scored(params: PyTree) -> tuple[tuple[PyTree, Values], PyTree]:
            outputs, hidden, model_state = _forward(model, params, state.model_state, x, key)
            return (outputs, hidden), model_state

        (outputs, hidden), pull, model_state = jax.vjp(scored, params, has_aux=True)
        check_objective(score, outputs, y)
        (loss, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)
        target = jax.nn.one_hot(y, outputs.shape[-1], dtype=outputs.dtype) if jnp.ndim(y) < outputs.ndim else y
        signals = {name: -jnp.tensordot(target, state.own[name], 1) / len(target) for name in hidden}
        (grads,) = pull((slope, signals))
        return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), State(model_state, state.own)

    return Rule(init, estimate, feedforward_predict)


def _forward(model: Any, params: PyTree, model_state: PyTree, x: PyTree, key: Any) -> tuple[PyTree, Values, PyTree]:
    """Outputs, hidden values and model state, where no derivative passes from one value to another."""
    through = _through_layers if isinstance(model, Layered) else _through_network
    return through(model, params, model_state, x, key)


def _through_layers(
    model: Layered, params: PyTree, model_state: PyTree, x: PyTree, key: Any
) -> tuple[PyTree, Values, PyTree]:
    hidden, states = {}, []
    x = model.inputs(params, x)
    layers = zip(model.layers, params, model.layer_states(model_state), strict=True)
    for index, (layer, own, state) in enumerate(layers):
        x = jax.lax.stop_gradient(x)
        x, state = layer.apply(own, state, x, key=model.layer_key(key, index), train=True)
        states.append(state)
        if index + 1 < len(model) and jax.tree.leaves(own):
            hidden[f"layer{index:03}"] = x
    if not jax.tree.leaves(params[-1]):
        raise ModelError(f"The last layer ({model.layers[-1].name}) has no weights.", hint="End with a dense layer.")
    return x, hidden, model_state if model_state == () else tuple(states)


def _through_network(
    model: Any, params: PyTree, model_state: PyTree, x: PyTree, key: Any
) -> tuple[PyTree, Values, PyTree]:
    network = learning_network(model, params, x, model_state=model_state, key=key)
    _, found = network((params, model_state), x)
    for name, predictions in found.items():
        if len(predictions) > 1:
            raise ModelError(
                f"The name {name!r} occurs {len(predictions)} times, and drtp takes one prediction of a value.",
                hint=f"Give each a name of its own, such as '{name}1' and '{name}2'.",
            )
    values = {name: jax.lax.stop_gradient(predictions[0]) for name, predictions in found.items()}
    (outputs, updated), predictions = network((params, model_state), x, values)
    return outputs, {name: one[0] for name, one in predictions.items()}, updated

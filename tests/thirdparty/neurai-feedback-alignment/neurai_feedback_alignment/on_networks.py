"""Feedback alignment on any network of named values.

A network predicts every named value from others, ``mu_k(v, theta)``. Back-propagation sends the errors of predictions
to the values that these are computed from by the transposed derivatives, taken at the parameters. Feedback alignment
takes them at parameters whose matrices are the fixed random ``B``; vectors, such as scales of a normalization, stay:

```
back-propagation            delta_k = sum_j (d mu_j / d v_k)^T delta_j        at theta
feedback alignment          delta_k = sum_j (d mu_j / d v_k)^T delta_j        at theta with B for its matrices
both                        d theta = sum_k (d mu_k / d theta)^T delta_k      at theta
```

The sum is over all predictions and the outputs, whose delta is that of the loss, and v are the values of the forward
pass. On a chain whose pre-activations have names this is feedback alignment layer by layer. What lies between two names
is transposed as one piece, so matrices that follow each other without a name between them act by their product.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.network import Network, learning_network
from neurai_core.rule import Estimate, Objective, State, check_objective, loss_aux, split_batch


def estimate_on_network(
    score: Objective, model: Any, params: PyTree, state: State, batch: PyTree, key: jax.Array | None
) -> tuple[Estimate, State]:
    """The estimate for a callable whose values have names.

    Args:
        score: loss and accuracy.
        model: the callable.
        params: its parameters.
        state: its collections, and the feedback weights.
        batch: ``(x, y)``.
        key: PRNG key of stochastic layers.

    Raises:
        ModelError: nothing but outputs has a name, or a name occurs again.
    """
    x, y = split_batch(batch)
    network = learning_network(model, params, x, model_state=state.model_state, key=key)
    forward = params, state.model_state
    (outputs, model_state), predictions = network(forward, x)
    check_objective(score, outputs, y)
    _check_names(predictions)
    values = {name: found[0] for name, found in predictions.items()}
    (loss, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)

    way_back = jax.tree.map(lambda w, b: b if jnp.ndim(w) > 1 else w, params, state.own)
    deltas = _errors(network, (way_back, state.model_state), x, values, slope)

    def predicted(params: PyTree) -> tuple[PyTree, PyTree]:
        (outputs, _), predictions = network((params, state.model_state), x, values)
        return outputs, predictions

    _, pull = jax.vjp(predicted, params)
    (grads,) = pull((slope, {name: (delta,) for name, delta in deltas.items()}))
    return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), State(model_state, state.own)


def _errors(
    network: Network, params: PyTree, x: PyTree, values: dict[str, jax.Array], slope: PyTree
) -> dict[str, jax.Array]:
    """``delta`` of every name: back-propagation at these parameters, but at the given values.

    The network is evaluated with what its predictions lack of the values added to them, so that it has these values
    whatever the parameters are.
    """
    _, predictions = network(params, x, values)
    lacking = {name: value - predictions[name][0] for name, value in values.items()}

    def outputs(errors: dict[str, jax.Array]) -> PyTree:
        return network.displaced(params, x, errors)[0][0]

    _, pull = jax.vjp(outputs, lacking)
    return pull(slope)[0]


def _check_names(predictions: dict[str, tuple[jax.Array, ...]]) -> None:
    for name, found in predictions.items():
        if len(found) > 1:
            raise ModelError(
                f"The name {name!r} occurs {len(found)} times, and feedback alignment takes one prediction of a value.",
                hint=f"Give each a name of its own, such as '{name}1' and '{name}2'.",
            )

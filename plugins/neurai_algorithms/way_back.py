r"""Back-propagation with other weights on the way back, on layers and on any network of named values.

A network predicts every named value from others, mu_k(v, theta). Errors travel from a prediction to what it is computed
from by the transposed derivative, here taken at other parameters B than those of the forward pass:

    delta_k = sum_j (d mu_j / d v_k)^T delta_j  at B        d theta = sum_k (d mu_k / d theta)^T delta_k  at theta

The sum is over all predictions and the outputs, whose delta is the slope of the loss, and v are the values of the
forward pass. On layers, this is delta_l = (delta_{l+1} B_{l+1}^T) f'(u_l). Only the matrices of B differ from the
parameters; vectors, such as the scales of a normalization, stay. What lies between two names is transposed as one
piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, normal
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, Layered
from neurai_core.network import learning_network
from neurai_core.rule import Estimate, Objective, check_objective, loss_aux, split_batch

Matrices = tuple[jax.Array, ...]
Pull = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]  # (error of the output, B) -> (gradients, error of the input)


def matrices_of(params: PyTree) -> Matrices:
    """The leaves with two axes or more, which are the weights that errors travel back through.

    >>> [w.shape for w in matrices_of(({"w": jnp.ones((3, 2)), "b": jnp.ones(2)},))]
    [(3, 2)]
    """
    return tuple(leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) > 1)


def with_matrices(params: PyTree, matrices: Sequence[jax.Array]) -> PyTree:
    """The parameters with others for their matrices.

    >>> params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    >>> float(with_matrices(params, [jnp.zeros((1, 1))])["w"][0, 0])
    0.0
    """
    following = iter(matrices)
    return jax.tree.map(lambda leaf: next(following) if jnp.ndim(leaf) > 1 else leaf, params)


def drawn_like(params: PyTree, scale: Any, key: jax.Array) -> Matrices:
    """Random matrices as large as those of the parameters, times a scale.

    >>> [b.shape for b in drawn_like({"w": jnp.ones((3, 2))}, 1.0, jax.random.key(0))]
    [(3, 2)]
    """
    weights = matrices_of(params)
    keys = jax.random.split(key, max(len(weights), 1))
    spread = [jnp.sqrt(jnp.mean(w**2)) * jnp.asarray(scale, w.dtype) for w in weights]
    return tuple(size * normal(k, w.shape, w.dtype) for size, k, w in zip(spread, keys, weights, strict=False))


def check_model(name: str, model: Any, params: PyTree) -> None:
    """Check that errors have weights to travel back through.

    Raises:
        ModelError: a layer has parameters that it does not show as a linear map, or there is no hidden layer.
    """
    if not isinstance(model, Layered):
        return
    with_params = 0
    for index, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
        with_params += bool(jax.tree.leaves(own))
        if layer.linear is None and jax.tree.leaves(own):
            raise ModelError(
                f"Layer {index} ({layer.name}) has parameters and is not 'linear, then elementwise', so {name} does "
                "not see through which weights errors travel back.",
                hint="Use dense and conv layers with layers without parameters between them, or name the products of "
                'the model, neurai.named(model, "auto"). bp and dfa take every layer.',
            )
    if with_params < 2:
        raise ModelError(
            f"{name} sends errors back to hidden layers, and the model has none.", hint="Add a layer, or use bp."
        )


def estimate_through(
    score: Objective, model: Any, params: PyTree, back: PyTree, model_state: PyTree, batch: PyTree, key: Any
) -> tuple[Estimate, PyTree]:
    """The estimate with other parameters on the way back.

    Args:
        score: loss and accuracy.
        model: a `Layered`, or a callable whose values have names.
        params: its parameters.
        back: the parameters of the way back, in the same structure.
        model_state: its collections.
        batch: ``(x, y)``.
        key: PRNG key of stochastic layers.

    Returns:
        ``(Estimate, model_state)``.

    Raises:
        DataError: the batch is empty, or inputs and targets do not match.
        ModelError: nothing but outputs has a name, or a name occurs again.

    >>> from neurai_core.losses import loss_function
    >>> from neurai_core.models import mlp
    >>> from neurai_core.rule import objective
    >>> model, score = mlp((4, 5, 3)), objective(loss_function("cross_entropy"), None)
    >>> params, _ = model.init(jax.random.key(0), (4,))
    >>> batch = jnp.ones((2, 4)), jnp.zeros(2, int)
    >>> estimate_through(score, model, params, params, (), batch, None)[0].grads[1]["w"].shape
    (5, 3)
    """
    through = _on_layers if isinstance(model, Layered) else _on_network
    return through(score, model, params, back, model_state, split_batch(batch), key)


# ---------------------------------------------------------------------------- layers


def _on_layers(
    score: Objective, model: Layered, params: PyTree, back: PyTree, model_state: PyTree, batch: PyTree, key: Any
) -> tuple[Estimate, PyTree]:
    x, y = batch
    outputs, pulls, updated = walk_forward(model, params, model_state, x, key, _through)
    check_objective(score, outputs, y)
    (loss, aux), error = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)
    grads = []
    for pull, weights in reversed(list(zip(pulls, back, strict=True))):
        own, error = pull(error, weights)
        grads.append(own)
    return Estimate(tuple(reversed(grads)), loss, score.accuracy(outputs, y), loss_aux(aux)), updated


def walk_forward(
    model: Layered, params: PyTree, model_state: PyTree, x: PyTree, key: Any, through: Callable[..., Any]
) -> tuple[PyTree, list[Any], PyTree]:
    """The outputs of a chain, the way back of every layer, and the collections after the pass.

    Args:
        model: the chain.
        params: its parameters.
        model_state: its collections.
        x: inputs, (B, ...).
        key: of its draws.
        through: ``(layer, params, state, x, key) -> (way back, output, state)``, one layer forward.
    """
    pulls, states = [], []
    x = model.inputs(params, x)
    layers = zip(model.layers, params, model.layer_states(model_state), strict=True)
    for index, (layer, own, state) in enumerate(layers):
        pull, x, state = through(layer, own, state, x, model.layer_key(key, index))
        pulls.append(pull)
        states.append(state)
    return x, pulls, model_state if model_state == () else tuple(states)


def _through(layer: Layer, params: PyTree, state: PyTree, x: PyTree, key: Any) -> tuple[Pull, PyTree, PyTree]:
    """One layer forward: its way back, its output and its model state."""
    linear, activation = layer.linear, layer.activation
    if linear is None or activation is None:  # it has no parameters
        y, pull_input, state = jax.vjp(partial(layer.apply, params, state, key=key, train=True), x, has_aux=True)
        return lambda error, back: (params, *pull_input(error)), y, state
    u, pull_params = jax.vjp(lambda params: linear(params, x), params)
    y, pull_activation = jax.vjp(activation, u)

    def pull(error: PyTree, back: PyTree) -> tuple[PyTree, PyTree]:
        (delta,) = pull_activation(error)
        below = jax.vjp(lambda x: linear(back, x), x)[1](delta)[0]  # of an affine map: it does not depend on x
        return *pull_params(delta), below

    return pull, y, state


# ---------------------------------------------------------------------------- networks


def _on_network(
    score: Objective, model: Any, params: PyTree, back: PyTree, model_state: PyTree, batch: PyTree, key: Any
) -> tuple[Estimate, PyTree]:
    x, y = batch
    network = learning_network(model, params, x, model_state=model_state, key=key)
    (outputs, updated), predictions = network((params, model_state), x)
    check_objective(score, outputs, y)
    _check_names(predictions)
    values = {name: found[0] for name, found in predictions.items()}
    (loss, aux), slope = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)

    def at(params: PyTree, values: dict[str, jax.Array]) -> tuple[PyTree, dict[str, jax.Array]]:
        (outputs, _), predictions = network((params, model_state), x, values)
        return outputs, {name: found[0] for name, found in predictions.items()}

    (errors,) = jax.vjp(lambda values: at(back, values)[0], values)[1](slope)
    for name in reversed(network.names):  # the error of a value is complete once all later ones have been sent back
        _, pull = jax.vjp(lambda values, name=name: at(back, values)[1][name], values)
        errors = jax.tree.map(jnp.add, errors, *pull(errors[name]))
    (grads,) = jax.vjp(lambda params: at(params, values), params)[1]((slope, errors))
    return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), updated


def _check_names(predictions: dict[str, tuple[jax.Array, ...]]) -> None:
    for name, found in predictions.items():
        if len(found) > 1:
            raise ModelError(
                f"The name {name!r} occurs {len(found)} times, and errors travel back through one prediction of a "
                "value.",
                hint=f"Give each a name of its own, such as '{name}1' and '{name}2'.",
            )

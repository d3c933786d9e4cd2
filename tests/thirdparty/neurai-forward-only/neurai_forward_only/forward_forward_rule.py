r"""Forward-Forward, Hinton 2022: no backward pass, and a prediction that tries every label in turn.

An input is marked with a label by an entry for each class, put in the place of its first entries (section 3.3). A
marked input is positive if the label is true. Every layer learns on its own to tell the two apart by its goodness
G_l = mean_j h_lj^2, and hands its activities on with their length taken out, so that the next cannot read G_l off:

    p(positive) = sigmoid(G_l - theta) ,    h_l = f(u_l / rms(u_{l-1})) .

The classes and the form of the inputs are told to ``init``, which makes the marks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import Layered
from neurai_core.rule import Estimate, Problem, Rule, State, split_batch
from neurai_forward_only import ForwardForwardConfig


def build(config: ForwardForwardConfig, *, accuracy: Callable[..., Any] | None = None, **context: Any) -> Rule:
    """The rule "Forward-Forward"; its state holds the mark of every label, (classes, inputs).

    Args:
        config: its settings.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        **context: not used: the loss is the rule's own.
    """

    def init(
        model: Layered, params: PyTree, *, key: Any = None, model_state: PyTree = (), problem: Problem | None = None
    ) -> State:
        return State(model_state, marks(problem, config.strength))

    def estimate(
        model: Layered, params: PyTree, state: State, batch: PyTree, *, key: jax.Array | None = None
    ) -> tuple[Estimate, State]:
        x, y = split_batch(batch)
        classes = len(state.own)
        other = (y + jax.random.randint(key, y.shape, 1, classes)) % classes  # any label but the true one
        theta = config.threshold

        def loss(params: PyTree) -> jax.Array:
            positive = goodness(model, params, marked(x, state.own[y]))
            negative = goodness(model, params, marked(x, state.own[other]))
            each = jax.nn.softplus(theta - positive) + jax.nn.softplus(negative - theta)
            return each.sum(axis=0).mean()  # over layers, over the batch

        value, grads = jax.value_and_grad(loss)(params)
        known = jnp.asarray(-1.0) if accuracy is None else accuracy(predict(model, params, x, state), y)
        return Estimate(grads, value, known, {}), state

    return Rule(init, estimate, predict)


def predict(model: Layered, params: PyTree, x: jax.Array, state: State) -> jax.Array:
    """Goodness of every label, (B, classes), summed over the layers."""
    tried = jax.vmap(lambda mark: goodness(model, params, marked(x, mark)).sum(axis=0), out_axes=1)
    return tried(state.own)


def marks(problem: Problem | None, strength: float) -> jax.Array:
    """The entries that stand for each label: one of them is not 0."""
    if problem is None or problem.classes is None:
        raise DataError(
            "Forward-Forward marks inputs with labels, and the number of classes is not known.",
            "Pass init(..., problem=problem_of(batch, classes)); it cannot learn a regression.",
        )
    x, _ = problem.batch
    if len(x.shape) != 2 or x.shape[1] < problem.classes:
        raise ModelError(
            f"Forward-Forward marks vectors of at least {problem.classes} entries, and a batch of inputs is {x.shape}.",
            "Use a multilayer perceptron.",
        )
    return strength * jnp.eye(problem.classes, dtype=x.dtype)


def marked(x: jax.Array, mark: jax.Array) -> jax.Array:
    """Inputs with the mark of a label in the place of their first entries."""
    return jnp.asarray(x).at[:, : mark.shape[-1]].set(mark)


def goodness(model: Layered, params: PyTree, x: jax.Array) -> jax.Array:
    """Goodness of every layer, (L, B); no gradient flows from one layer to another."""
    found = []
    for layer, own in zip(model.layers, params, strict=True):
        h = layer.apply(own, (), jax.lax.stop_gradient(normalized(x)), train=True)[0]
        found.append(jnp.mean(h**2, axis=1))
        x = h
    return jnp.stack(found)


def normalized(h: jax.Array) -> jax.Array:
    """Activities with a root mean square of 1."""
    return h / (jnp.sqrt(jnp.mean(h**2, axis=1, keepdims=True)) + 1e-6)
